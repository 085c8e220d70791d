"""What a sampler of a plugin gives is looked at: a missing return is no sample."""

from __future__ import annotations

import pytest

import diffkit
from diffkit.core.sampler import Sampler, State, StepSampler

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
    "steps": 3,
}


class Forgets(StepSampler):
    def step(self, denoiser, x_t, t, s, noise):
        State(x_t, s)


class Half(StepSampler):
    def step(self, denoiser, x_t, t, s, noise):
        return State(x_t[:1], s)


class GivesTensors(Sampler):
    def trajectory(self, denoiser, x, times, noise, inputs):
        yield x


class GivesNothing(Sampler):
    def trajectory(self, denoiser, x, times, noise, inputs):
        return iter(())


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (Forgets(), "Forgets yields NoneType"),
        (Half(), r"shape \[1, 2\]"),
        (GivesTensors(), "yields Tensor"),
        (GivesNothing(), "yields nothing"),
    ],
)
def test_what_is_no_state_is_an_error(sampler, words) -> None:
    with pytest.raises(diffkit.ComponentError, match=words):
        diffkit.build(SPEC).sample(4, sampler=sampler, progress=False)
