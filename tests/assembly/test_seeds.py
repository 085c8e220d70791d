"""First weights are functions of the spec's seed, whatever component holds them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import diffkit
from diffkit.bundled.losses.simple import Simple
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.core import ForwardProcess, Loss, NoiseSchedule, Sampler
from diffkit.plugins.entries import ComponentEntry, Origin

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
}


class Weighed(nn.Module, Loss):
    def __init__(self):
        super().__init__()
        self.weights = nn.Linear(3, 3)

    def __call__(self, batch, context):
        return Simple()(batch, context)


class Noisy(nn.Module, NoiseSchedule):
    def __init__(self):
        super().__init__()
        self.weights = nn.Linear(3, 3)
        self._like = Cosine()

    steps = property(lambda self: self._like.steps)
    t_min = property(lambda self: self._like.t_min)

    def log_snr(self, t):
        return self._like.log_snr(t)

    def time_at(self, log_snr):
        return self._like.time_at(log_snr)


class Moved(nn.Module, ForwardProcess):
    def __init__(self, *, schedule: NoiseSchedule):
        super().__init__()
        self.weights = nn.Linear(3, 3)
        self._like = VariancePreserving(schedule=schedule)

    schedule = property(lambda self: self._like.schedule)
    diffuse = prior = interpret = reverse = lambda self, *a: None


KINDS = {"loss": Weighed, "schedule": Noisy, "process": Moved}


@pytest.mark.parametrize("kind", KINDS)
def test_of_every_component_with_weights(kind) -> None:
    host = diffkit.Host()
    host.add(ComponentEntry(kind, "mine", KINDS[kind], Origin("acme", "0", "acme")))
    spec = {**SPEC, kind: "acme.mine"}
    if kind == "process":
        spec |= {"loss": Anything(), "sampler": Still()}

    def weights(seed, drawn):
        torch.manual_seed(drawn)
        return getattr(diffkit.build({**spec, "seed": seed}, host=host).parts, kind).weights.weight

    assert torch.equal(weights(0, 1), weights(0, 2))
    assert not torch.equal(weights(0, 1), weights(1, 1))


class Still(Sampler):
    def trajectory(self, denoiser, x, times, noise, inputs):
        yield


class Anything(Loss):
    def __call__(self, batch, context):
        return None
