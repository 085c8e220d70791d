"""What a denoiser keeps for one trajectory is made by `start`, also under guidance that knows
nothing of it.
"""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.assembly.system import System
from diffkit.core.denoiser import Denoiser
from diffkit.core.guidance import Guidance
from diffkit.core.sampler import State, StepSampler

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "steps": 2,
    "data": {"shape": [2], "range": [-1.0, 1.0]},
}


class Remembers(Denoiser):
    """Notes whether it was started, with inputs of how many rows, for each question."""

    def __init__(self, inner, log, rows=None):
        self._inner, self._log, self._rows = inner, log, rows

    @property
    def process(self):
        return self._inner.process

    @property
    def data_range(self):
        return self._inner.data_range

    def start(self, inputs):
        rows = {name: len(value) for name, value in inputs.items()}
        return Remembers(self._inner, self._log, rows)

    def __call__(self, x_t, t, *, given=None, times=None):
        self._log.append((self._rows, len(x_t)))
        return self._inner(x_t, t)


class Wrapped(Remembers):
    def start(self, inputs):
        return self


class Plain(Guidance):
    """Hands on nothing."""

    def guide(self, make_denoiser, conditioning):
        return Wrapped(make_denoiser(conditioning.condition), [])


class Seen(StepSampler):
    inputs = ("image",)

    def step(self, denoiser, x_t, t, s, noise):
        return State(denoiser(x_t, t).x_0, s)


@pytest.mark.parametrize("guidance", [None, Plain()], ids=["none", "plain"])
@pytest.mark.parametrize("clip", [True, False])
def test_a_trajectory_asks_what_was_started_for_it(guidance, clip, monkeypatch):
    log, real = [], System.denoiser

    def noted(self, *args, **more):
        return Remembers(real(self, *args, **more), log)

    monkeypatch.setattr(System, "denoiser", noted)
    spec = {**SPEC, "guidance": guidance, "sampler": Seen(), "clip": clip}
    pipeline = diffkit.build(spec, device="cpu")
    pipeline.sample(3, inputs={"image": torch.zeros(1, 2)}, batch_size=2, progress=False)
    assert log == [({"image": 2}, 2)] * 2 + [({"image": 1}, 1)] * 2
