"""The state of an optimiser as named tensors, and back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from diffkit.errors import CheckpointError, ComponentError
from diffkit.storage.checkpoint import OPTIMIZER, read_training, write_training
from diffkit.storage.optimizer_state import OptimizerSlots, OptimizerState


def as_it_is(value, like):
    return value


def made() -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    return network, torch.optim.AdamW(network.parameters(), lr=0.1)


def slots(network: nn.Module, optimizer: torch.optim.Optimizer) -> OptimizerSlots:
    return OptimizerSlots(optimizer, {w: name for name, w in network.named_parameters()})


def update(network: nn.Linear, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    network(x).square().sum().backward()
    optimizer.step()


def written(tmp_path):
    network, optimizer = made()
    update(network, optimizer, 1)
    read = slots(network, optimizer).read()
    progress = {"seconds": 1.5, OPTIMIZER: read.record}
    tensors = {"model": network.state_dict(), OPTIMIZER: read.tensors}
    path = write_training(tmp_path, 1, tensors, {"seed": 0}, progress)
    return network, optimizer, path


def test_an_optimiser_goes_on_as_if_it_had_not_been_written(tmp_path) -> None:
    network, optimizer, path = written(tmp_path)
    progress, found = read_training(path)
    assert progress["seconds"] == 1.5
    other = copy.deepcopy(network)
    fresh = torch.optim.AdamW(other.parameters(), lr=0.1)
    slots(other, fresh).load(found, path, as_it_is)
    for one, its in ((network, optimizer), (other, fresh)):
        update(one, its, 2)
    assert torch.equal(network.weight, other.weight)
    assert torch.equal(network.bias, other.bias)


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
    _, found = read_training(path)
    found = OptimizerState(dict(found.tensors), found.record)
    change(found.tensors)
    network, fresh = made()
    before = network.weight.detach().clone()
    with pytest.raises(CheckpointError):
        slots(network, fresh).load(found, path, as_it_is)
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
        read_training(path)


class Odd(torch.optim.Optimizer):
    """Keeps all that a checkpoint may hold, and a count among its settings."""

    def __init__(self, weights) -> None:
        super().__init__(weights, {"lr": 1.0, "count": 0, "largest": float("-inf")})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            group["count"] += 1
            group["largest"] = max(group["largest"], 0.1 * group["count"])
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["factors"] = {"left": torch.eye(weight.shape[0]).double(), "right": None}
                    state["history"] = [torch.zeros(3, dtype=torch.int8), (1, 0.1, "text")]
                state["factors"]["left"] *= 1.0 + 1e-3 * group["count"]
                state["history"][0] += 1
                scale = state["factors"]["left"][0, 0] * state["history"][0][0] * group["largest"]
                weight.sub_(1e-2 * scale.float() * weight.grad)


def test_any_optimiser_goes_on_bit_by_bit(tmp_path) -> None:
    """Nested, of other dtypes than the weights, and with numbers among the settings."""
    network, _ = made()
    optimizer = Odd(network.parameters())
    held = slots(network, optimizer)
    update(network, optimizer, 1)
    read = held.read()
    tensors = {"model": network.state_dict(), OPTIMIZER: read.tensors}
    path = write_training(tmp_path, 1, tensors, {}, {"seconds": 0.0, OPTIMIZER: read.record})
    other = copy.deepcopy(network)
    fresh = Odd(other.parameters())
    slots(other, fresh).load(read_training(path)[1], path, as_it_is)
    for one, its in ((network, optimizer), (other, fresh)):
        update(one, its, 2)
    assert torch.equal(network.weight, other.weight)
    state, again = optimizer.state[network.weight], fresh.state[other.weight]
    assert again["factors"]["left"].dtype == torch.float64
    assert torch.equal(again["factors"]["left"], state["factors"]["left"])
    assert again["history"][1] == (1, 0.1, "text")
    assert fresh.param_groups[0]["count"] == 2


def test_what_no_checkpoint_can_hold_is_said() -> None:
    network, optimizer = made()
    held = slots(network, optimizer)
    update(network, optimizer, 1)
    optimizer.state[network.weight]["plan"] = {"made": object()}
    with pytest.raises(ComponentError, match=r"plan/made in the state of weight is a object"):
        held.read()
