import math

import pytest
import torch
from torch import nn

from diffkit.bundled.datasets.digits import Digits
from diffkit.errors import SpecError, TrainingError
from diffkit.helpers.fit import FitSettings, fit


class _Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1, 8, 8))


def squared_error(network):
    def objective(batch, draws, done):
        error = (batch.x_0 - network.value).square().mean()
        return error, {"squared_error": error}

    return objective


def test_the_minimum_of_a_squared_error_is_the_mean_of_the_data() -> None:
    """Within four deviations of a batch's mean: values in [-1, 1], and a rate that falls to 0."""
    network, data = _Mean(), Digits()
    fit(
        network,
        data,
        squared_error(network),
        FitSettings(steps=400, batch_size=256, learning_rate=3e-2),
    )
    mean = data.batch(range(len(data))).x_0.mean(dim=0)
    assert (network.value - mean).abs().max() < 4 / math.sqrt(256)
    assert not network.training
    assert not network.value.requires_grad


def test_the_seed_alone_decides() -> None:
    found, state = [], torch.get_rng_state()
    for seed in (1, 1, 2):
        network = _Mean()
        fit(network, Digits(), squared_error(network), FitSettings(steps=3, seed=seed))
        found.append(network.value)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_done_and_the_terms_are_told_and_a_stop_is_obeyed() -> None:
    network, told = _Mean(), []
    fit(
        network,
        Digits(),
        squared_error(network),
        FitSettings(steps=10),
        progress=lambda done, terms: told.append((done, terms)),
        stop=lambda: len(told) == 4,
    )
    assert [done for done, _ in told] == [0.0, 0.1, 0.2, 0.3]
    assert all(0 < terms["squared_error"] < 2 for _, terms in told)


def test_the_rate_rises_and_falls() -> None:
    """Of Adam with a constant gradient, each update is as long as the learning rate."""
    network, places = _Mean(), []

    def slope(batch, draws, done):
        return -network.value.sum(), {}

    def keep(done, terms):
        places.append(float(network.value.detach().max()))

    settings = FitSettings(steps=200, learning_rate=1e-2)
    fit(network, Digits(), slope, settings, progress=keep)
    lengths = torch.tensor([0.0, *places], dtype=torch.float64).diff() / 1e-2
    assert lengths[0] == pytest.approx(0.02, rel=1e-3)
    assert lengths[10] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.05)), rel=1e-3)
    assert lengths[100] == pytest.approx(0.5, rel=1e-3)
    assert lengths[-1] < 1e-3


def test_a_loss_that_is_not_finite_ends_it() -> None:
    with pytest.raises(TrainingError, match="update 0 is not finite"):
        fit(_Mean(), Digits(), lambda *_: (torch.tensor(math.nan), {}), FitSettings())


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"max_seconds": -1.0}]
)
def test_settings_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(SpecError, match=next(iter(wrong))):
        FitSettings(**wrong)
