"""The state of an optimiser as named tensors, and back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from diffkit.errors import CheckpointError
from diffkit.storage.checkpoint import (
    OPTIMIZER,
    load_optimizer,
    optimizer_groups,
    optimizer_tensors,
    read_training,
    write_training,
)

NAMES = ["weight", "bias"]


def as_it_is(value, like):
    return value


def made() -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    return network, torch.optim.AdamW(network.parameters(), lr=0.1)


def update(network: nn.Linear, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    network(x).square().sum().backward()
    optimizer.step()


def written(tmp_path):
    network, optimizer = made()
    update(network, optimizer, 1)
    progress = {"seconds": 1.5, "groups": optimizer_groups(optimizer, NAMES)}
    tensors = {"model": network.state_dict(), OPTIMIZER: optimizer_tensors(optimizer, NAMES)}
    path = write_training(tmp_path, 1, tensors, {"seed": 0}, progress)
    return network, optimizer, path


def test_an_optimiser_goes_on_as_if_it_had_not_been_written(tmp_path) -> None:
    network, optimizer, path = written(tmp_path)
    progress, found = read_training(path, NAMES)
    assert progress["seconds"] == 1.5
    other = copy.deepcopy(network)
    fresh = torch.optim.AdamW(other.parameters(), lr=0.1)
    load_optimizer(fresh, NAMES, found, path, as_it_is)
    for one, its in ((network, optimizer), (other, fresh)):
        update(one, its, 2)
    assert torch.equal(network.weight, other.weight)
    assert torch.equal(network.bias, other.bias)


@pytest.mark.parametrize("names", [["bias", "weight"], ["weight"], ["weight", "bias", "more"]])
def test_weights_in_another_order_are_refused(names, tmp_path) -> None:
    *_, path = written(tmp_path)
    with pytest.raises(CheckpointError):
        read_training(path, names)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("bias.exp_avg"),
        lambda found: found.update({"bias.exp_avg": torch.zeros(5)}),
        lambda found: found.update({"bias.exp_avg_sq": torch.full((2,), -1.0)}),
        lambda found: found.update({"bias.exp_avg": torch.full((2,), torch.nan)}),
        lambda found: found.update({"else.exp_avg": torch.zeros(2)}),
    ],
    ids=["missing", "shape", "negative", "nan", "left over"],
)
def test_a_state_that_does_not_fit_is_refused_and_nothing_is_taken(change, tmp_path) -> None:
    *_, path = written(tmp_path)
    _, found = read_training(path, NAMES)
    change(found)
    network, fresh = made()
    before = network.weight.detach().clone()
    with pytest.raises(CheckpointError):
        load_optimizer(fresh, NAMES, found, path, as_it_is)
    assert torch.equal(network.weight, before)


def test_weights_alone_are_nothing_to_go_on_from(tmp_path) -> None:
    import diffkit

    spec = {
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
        "loss": "simple",
        "sampler": "ddpm",
        "data": {"shape": [2]},
    }
    diffkit.build(spec, device="cpu").save(tmp_path / "run")
    (path,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    with pytest.raises(CheckpointError, match="weights only"):
        read_training(path, NAMES)
