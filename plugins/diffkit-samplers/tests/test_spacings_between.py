"""Spacings between t = 1 and the smallest time."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.errors import ComponentError
from diffkit_samplers.spacings import Karras, Quadratic, UniformLogSNR

from .samplers_problems import ContinuousCosine, LogLinear, ZeroTerminal

SPACINGS = [Quadratic(), UniformLogSNR(), Karras(), Karras(rho=1.0)]
SCHEDULES = [
    Linear(),
    Cosine(),
    Cosine(steps=7),
    ZeroTerminal(),
    LogLinear(),
    ContinuousCosine(),
]
every_spacing = pytest.mark.parametrize("spacing", SPACINGS)


@every_spacing
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 20, 40, 250, 1000])
def test_times_decrease_from_one_to_zero(spacing, schedule, steps):
    grid = schedule.steps
    if grid is not None and steps > grid:
        with pytest.raises(ComponentError, match=rf"at most {grid}, .* not {steps}"):
            spacing.times(steps, schedule)
        return
    times = spacing.times(steps, schedule)
    assert len(times) == steps + 1
    assert all(isinstance(t, float) for t in times)
    assert times[0] == 1.0
    assert times[-1] == 0.0
    assert all(t > s for t, s in pairwise(times))
    if steps > 2:
        assert times[-2] == pytest.approx(schedule.t_min, rel=1e-12)
    if grid is not None:
        assert set(times) <= {k / grid for k in range(grid + 1)}
    if grid == steps:
        assert times == tuple(k / grid for k in reversed(range(grid + 1)))


@pytest.mark.parametrize("rho", [1e-300, 1e-3, 0.1, 1e5, 1e300])
@pytest.mark.parametrize("schedule", [Linear(), ZeroTerminal()])
@pytest.mark.parametrize("steps", [1, 2, 20, 40])
def test_extreme_rho(rho, schedule, steps):
    # On a grid, times that would meet move apart, so any rho gives a trajectory.
    times = Karras(rho=rho).times(steps, schedule)
    assert all(t > s for t, s in pairwise(times))
    if rho == 1e300:
        # The limit is even in log-SNR.
        even = UniformLogSNR().times(steps, schedule)
        assert times == pytest.approx(even, abs=1.01 / schedule.steps)


@pytest.mark.parametrize("spacing", [UniformLogSNR(), Karras()])
def test_two_steps_from_no_signal(spacing):
    schedule = ContinuousCosine()
    first, between, last = spacing.times(2, schedule)
    assert (first, last) == (1.0, 0.0)
    ends = schedule.log_snr(1 - schedule.t_min), schedule.log_snr(schedule.t_min)
    rho = 7 if isinstance(spacing, Karras) else math.inf
    if rho == math.inf:
        halfway = 0.5 * (ends[0] + ends[1])
    else:
        halfway = -2 * rho * (0.5 * sum(torch.exp(-end / (2 * rho)) for end in ends)).log()
    assert between == pytest.approx(float(schedule.time_at(halfway)), rel=1e-9)


@every_spacing
@pytest.mark.parametrize("steps", [-1, 0])
def test_impossible_numbers_of_steps(spacing, steps):
    with pytest.raises(ComponentError, match=f"at least 1, not {steps}"):
        spacing.times(steps, LogLinear())
    with pytest.raises(ComponentError, match=f"at least 1 and at most 7, .* not {steps}"):
        spacing.times(steps, Cosine(steps=7))


def differences(values):
    return torch.diff(torch.tensor(values, dtype=torch.float64))


@pytest.mark.parametrize("schedule", [LogLinear(), LogLinear(first=20.0, last=-20.0)])
def test_what_is_even(schedule):
    def log_snr(times):
        return schedule.log_snr(torch.tensor(times[:-1], dtype=torch.float64))

    quadratic = differences([t**0.5 for t in Quadratic().times(30, schedule)[:-1]])
    even = torch.diff(log_snr(UniformLogSNR().times(30, schedule)))
    by_sigma = torch.diff(torch.exp(-log_snr(Karras().times(30, schedule)) / 14))
    linear = torch.diff(torch.exp(-log_snr(Karras(rho=1.0).times(30, schedule)) / 2))
    for steps in (quadratic, even, by_sigma, linear):
        # Times near 1 are known to 1e-16, and sigma' there is e^10.
        assert torch.allclose(steps, steps.mean().expand(29), rtol=1e-7, atol=0)


@pytest.mark.parametrize("spacing", [UniformLogSNR(), Karras()])
def test_without_signal_at_the_start(spacing):
    for schedule in (ContinuousCosine(), ZeroTerminal()):
        times = spacing.times(12, schedule)
        assert times[1] == pytest.approx(1 - schedule.t_min, rel=1e-12)
    times = UniformLogSNR().times(12, ContinuousCosine())
    even = torch.diff(ContinuousCosine().log_snr(torch.tensor(times[1:-1], dtype=torch.float64)))
    assert torch.allclose(even, even.mean().expand(10), rtol=1e-9, atol=0)


def test_on_a_grid_times_stay_near():
    schedule = Linear()
    times = torch.tensor(UniformLogSNR().times(20, schedule)[:-1], dtype=torch.float64)
    wanted = torch.linspace(
        float(schedule.log_snr(1.0)), float(schedule.log_snr(0.001)), 20, dtype=torch.float64
    )
    exact = schedule.time_at(wanted)
    # Half a grid step, and up to two more where the last few times push one another apart.
    assert (times - exact).abs().max() <= 2.5e-3
    assert ((times - exact).abs()[:15] <= 0.5e-3 + 1e-12).all()


class Flat(LogLinear):
    """So steep that neighbouring times cannot be told apart."""

    t_min = 1 - 1e-15


@pytest.mark.parametrize("spacing", [Quadratic(), UniformLogSNR(), Karras()])
def test_too_many_steps_for_float64(spacing):
    with pytest.raises(ComponentError, match="take fewer steps"):
        spacing.times(100, Flat())
