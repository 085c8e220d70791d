"""Ancestral sampling of any process: by its `reverse`, and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ancestral import Ancestral
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.schedules.rectified import Rectified
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import SampleNoise
from diffkit.core.prediction import Prediction
from diffkit.core.process import ForwardProcess
from diffkit.testing import ExactMixture


class Learned(Denoiser):
    """Places the variance, as a network does that learns it."""

    def __init__(self, inner, fraction):
        self.inner, self.fraction = inner, fraction

    @property
    def process(self):
        return self.inner.process

    def __call__(self, x_t, t, *, given=None, times=None):
        return self.inner(x_t, t).with_variance_fraction(self.fraction)


@pytest.mark.parametrize("fraction", [None, 0.3])
@pytest.mark.parametrize("curve", [VariancePreserving, VarianceExploding, RectifiedFlow])
def test_of_a_gaussian_process_it_is_ddpm_bit_for_bit(curve, fraction):
    process = curve(schedule=Linear())
    denoiser = Learned(ExactMixture(process, [[-1.0, 0.5], [1.0, 0.0]], [0.1, 0.2]), fraction)
    times = Trailing().times(6, process.schedule)

    def states(sampler):
        noise = SampleNoise(seed=3, indices=range(4))
        x = process.prior((4, 2), noise)
        return list(sampler.trajectory(denoiser, x, times, noise, {}))

    for one, other in zip(states(Ancestral()), states(DDPM()), strict=True):
        assert torch.equal(one.x, other.x)
        assert one.t == other.t
        assert torch.equal(one.prediction.x_0, other.prediction.x_0)


@dataclass(frozen=True, eq=False)
class Shares(Prediction):
    """The probability of a one, for each coordinate."""

    shares: torch.Tensor

    @property
    def x_0(self):
        return self.shares


class Pairs(ForwardProcess):
    """Ones and zeros, hidden (2) by time t with probability `hidden(t)`."""

    def __init__(self, *, schedule):
        self._schedule = schedule

    @property
    def schedule(self):
        return self._schedule

    def hidden(self, t):
        return torch.sigmoid(-0.5 * self._schedule.log_snr(t))

    def diffuse(self, x_0, t, drawn):
        raise AssertionError("sampling diffuses nothing")

    def prior(self, shape, noise, condition=None):
        return torch.full(tuple(shape), 2)

    def interpret(self, output, x_t, t):
        return Shares(output)

    def reverse(self, prediction, x_t, t, s, noise):
        shown = noise.uniform(x_t.shape) < 1 - self.hidden(s) / self.hidden(t)
        ones = (noise.uniform(x_t.shape) < prediction.x_0).long()
        return torch.where((x_t == 2) & shown, ones, x_t)


class Equal(Denoiser):
    """Knows that the two of a pair are equal, and either as often."""

    def __init__(self, process):
        self._process = process

    @property
    def process(self):
        return self._process

    def __call__(self, x_t, t, *, given=None, times=None):
        other = x_t.flip(-1)
        return Shares(torch.where(other == 2, 0.5, other.double()))


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_its_error_falls_like_its_order_where_nothing_is_gaussian(steps):
    # Both of a pair are shown in one of S even steps with probability 1 / S, and then they are
    # drawn apart, and differ in a half of the cases: so that 1 / (2 S) of all pairs do.
    process, count = Pairs(schedule=Rectified()), 4000
    times = tuple(1 - k / steps for k in range(steps + 1))
    noise = SampleNoise(seed=5, indices=range(count))
    x = process.prior((count, 2), noise)
    *_, end = Ancestral().trajectory(Equal(process), x, times, noise, {})
    share = (end.x[:, 0] != end.x[:, 1]).double().mean().item()
    expected = 0.5 * steps ** -Ancestral().order
    # Five standard errors: once in 1.7 million.
    assert share == pytest.approx(expected, abs=5 * (expected * (1 - expected) / count) ** 0.5)
    assert end.x.max() < 2
