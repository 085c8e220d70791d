"""The weights of a pipeline and their average, written and taken back."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.errors import CheckpointError, SpecError
from diffkit.storage.optimizer_state import OptimizerState
from diffkit.storage.run_directory import checkpoints
from diffkit.storage.weights import Continuation, Weights

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
}


def fresh(seed: int = 0) -> Weights:
    return Weights(diffkit.build({**SPEC, "seed": seed}, device="cpu").system)


def states(weights: Weights) -> list[torch.Tensor]:
    averages = [] if weights.average is None else list(weights.average.parameters())
    return [*weights.system.parameters(), *averages]


def test_the_average_is_what_is_sampled_while_it_follows() -> None:
    weights = fresh()
    assert weights.sampled() is weights.system
    weights.follow(["ema"])
    followed = weights.average
    assert weights.sampled() is followed
    assert not any(weight.requires_grad for weight in followed.parameters())
    weights.follow(["ema"])
    assert weights.average is followed
    weights.follow([])
    assert weights.sampled() is weights.system


@pytest.mark.parametrize("average", [False, True])
def test_what_was_written_is_taken_back(average, tmp_path) -> None:
    weights = fresh()
    weights.follow(["ema"] if average else [])
    if average:
        with torch.no_grad():
            next(weights.average.parameters()).add_(1.0)
    weights.steps = 12
    weights.save(tmp_path, diffkit.build(SPEC, device="cpu").spec.model_dump(mode="json"))
    (checkpoint,) = checkpoints(tmp_path)
    other = fresh(seed=1)
    other.follow([] if average else ["ema"])
    other.continuation = Continuation(1, 0.0, OptimizerState(), {})
    other.restore(checkpoint)
    assert other.steps == 12
    assert other.continuation is None
    assert (other.average is not None) is average
    for one, its in zip(states(weights), states(other), strict=True):
        assert torch.equal(one, its)


def test_an_average_is_sampled_by_its_name_or_by_its_component() -> None:
    weights = fresh()
    weights.follow(["ema", "power-0.05", "power-0.1"])
    assert weights.sampled("power") is weights.averages["power-0.05"]
    assert weights.sampled("power-0.1") is weights.averages["power-0.1"]
    assert weights.sampled("latest") is weights.system
    with pytest.raises(SpecError, match=r"no 'swa'; the averages are: ema, power-0.05, power-0.1"):
        weights.sampled("swa")


def test_weights_that_do_not_fit_are_refused_and_none_is_taken(tmp_path) -> None:
    weights = fresh()
    weights.save(tmp_path, diffkit.build(SPEC, device="cpu").spec.model_dump(mode="json"))
    wide = {**SPEC, "model": {"id": "mlp", "config": {"width": 16, "depth": 1}}}
    other = Weights(diffkit.build(wide, device="cpu").system)
    before = [state.clone() for state in states(other)]
    with pytest.raises(CheckpointError):
        other.restore(checkpoints(tmp_path)[0])
    assert all(torch.equal(a, b) for a, b in zip(states(other), before, strict=True))
