"""The noise levels that EDM trains at."""

from __future__ import annotations

import math

import pytest
import torch

from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.times.lognormal import LogNormal
from diffkit.testing.checks.common import ZeroTerminalSNR
from diffkit.testing.reference import UniformLogSNR

from .distances import distance, drawn, limit, on_the_grid

CHOICES = [(-1.2, 1.2), (0.4, 0.8)]
SCHEDULES = [UniformLogSNR(), UniformLogSNR(first=4.0, last=-1.0), ZeroTerminalSNR(), Linear()]


def karras(mean, std, schedule):
    """`P(T <= t) = P(ln sigma <= -l(t) / 2)`; what is outside the range is at its ends."""

    def distribution(t):
        levels = schedule.log_snr(t.clamp(1e-12, 1))
        inside = torch.special.ndtr((-0.5 * levels - mean) / std)
        return torch.where(t >= 1, 1.0, torch.where(t < schedule.t_min, 0.0, inside))

    return distribution


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(("mean", "std"), CHOICES)
def test_the_marginal(mean, std, schedule) -> None:
    t, weight = drawn(LogNormal(mean=mean, std=std), schedule)
    law = karras(mean, std, schedule)
    if schedule.steps is not None:
        law = on_the_grid(law, schedule.steps)
    assert distance(t, law) < limit(len(t))
    assert bool((weight == 1).all())


@pytest.mark.parametrize(("mean", "std"), CHOICES)
def test_the_noise_levels_are_lognormal(mean, std) -> None:
    schedule = UniformLogSNR(first=30.0, last=-30.0)
    t, _ = drawn(LogNormal(mean=mean, std=std), schedule, count=20_000)
    log_sigma = -0.5 * schedule.log_snr(t)
    # Levels below t_min's are at t_min: log-SNR 29.94.
    expected = lambda x: torch.special.ndtr((x - mean) / std)  # noqa: E731
    assert distance(log_sigma, expected) < limit(len(t)) + 1e-8


def test_the_distance_tells_laws_apart() -> None:
    schedule = UniformLogSNR()
    t, _ = drawn(LogNormal(mean=-1.1), schedule)
    assert distance(t, karras(-1.2, 1.2, schedule)) > limit(len(t))
    # The log-SNR has twice the deviation of ln sigma.
    t, _ = drawn(LogNormal(std=0.6), schedule)
    assert distance(t, karras(-1.2, 1.2, schedule)) > limit(len(t))


def test_what_is_outside_the_range_is_at_its_ends() -> None:
    schedule = UniformLogSNR(first=2.0, last=-2.0)
    t, _ = drawn(LogNormal(mean=0.0, std=2.0), schedule)
    outside = 0.5 * math.erfc(0.5 / math.sqrt(2))
    for end in (schedule.t_min, 1.0):
        # From t_min on the log-SNR is 2 - 0.004: closer than chance shows.
        there = (t - end).abs() < 1e-9
        assert abs(float(there.double().mean()) - outside) < limit(len(t)) + 1e-3


def test_extreme_levels_are_times_on_every_schedule() -> None:
    ends = torch.tensor([0.0, 2**-53, 0.3, 1 - 2**-53], dtype=torch.float64)
    for schedule in (*SCHEDULES, Cosine(steps=1), Cosine(steps=4000)):
        for mean in (-300.0, 0.0, 300.0):
            t, _ = LogNormal(mean=mean, std=20.0).draw(ends, schedule)
            assert bool(((t >= schedule.t_min) & (t <= 1)).all())
            assert torch.allclose(t, schedule.snap(t), rtol=0, atol=1e-12)
            assert t[0] == 1.0


def test_a_learned_schedule_gets_no_gradient_from_times() -> None:
    class Learned(UniformLogSNR, torch.nn.Module):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self._first = torch.nn.Parameter(torch.tensor(8.0, dtype=torch.float64))
            self._last = torch.nn.Parameter(torch.tensor(-8.0, dtype=torch.float64))

        def log_snr(self, t):
            return torch.lerp(self._first, self._last, torch.as_tensor(t, dtype=torch.float64))

        def time_at(self, log_snr):
            return (self._first - log_snr) / (self._first - self._last)

    t, _ = drawn(LogNormal(), Learned(), count=10)
    assert not t.requires_grad
