"""Every sampler converges as fast as it says."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.testing import ExactGaussian, ExactMixture

from .samplers_problems import (
    DETERMINISTIC,
    STOCHASTIC,
    TIGHT,
    Counting,
    GivenNoise,
    LogLinear,
    carried,
    end_of,
    even,
    marginal,
    moments,
)

END = 0.05


def mixture(schedule):
    process = VariancePreserving(schedule=schedule)
    return ExactMixture(process, [[-1.0, 0.0], [1.0, 0.5], [0.0, 2.0]], [0.1, 0.2, 0.3])


def start():
    return torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@cache
def reference(first, last):
    denoiser = mixture(LogLinear(first=first, last=last))
    return end_of(TIGHT, denoiser, start(), (1.0, END))


def fitted(counts, errors):
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_along_the_probability_flow(name):
    sampler = DETERMINISTIC[name]
    # A start of low order shows only with signal at t = 1 and many steps; the third order of
    # unipc's p hides it best.
    hides = name.startswith("unipc 3")
    first, last = (4.0, -2.0) if hides else (6.0, -4.0)
    counts = (64, 128, 256) if hides else (16, 32, 64, 128)
    denoiser = mixture(LogLinear(first=first, last=last))
    schedule, known = denoiser.process.schedule, reference(first, last)
    errors = [
        (end_of(sampler, denoiser, start(), even(schedule, count, END)) - known).square().mean()
        for count in counts
    ]
    assert fitted(counts, [error.sqrt().item() for error in errors]) == pytest.approx(
        sampler.order, abs=0.2
    )


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize("variance", [0.25, 2.0])
def test_order_of_the_moments(name, variance):
    sampler, schedule, mean, counts = STOCHASTIC[name], LogLinear(), 0.7, (16, 32, 64, 128)
    process = VariancePreserving(schedule=schedule)
    (mean_1, std_1), (mean_s, std_s) = (marginal(process, t, mean, variance) for t in (1.0, END))
    denoiser, errors = ExactGaussian(process, mean, variance), []
    for count in counts:
        times = even(schedule, count, END)
        mean_end, variance_end = moments(sampler, denoiser, times, mean_1, std_1.square())
        # The mean is carried exactly: the denoiser says the same all along its path.
        assert mean_end == pytest.approx(mean_s.item(), abs=1e-12)
        errors.append(abs(variance_end - std_s.square().item()))
    assert fitted(counts, errors) == pytest.approx(sampler.order, abs=0.2)


def test_the_adaptive_solver_keeps_its_tolerance():
    process = VariancePreserving(schedule=LogLinear())
    x = torch.tensor([[-1.3], [0.4], [2.0]], dtype=torch.float64)
    # Type and arguments: the sampler is made anew at each tolerance.
    make = type(TIGHT)
    calls = []
    for mean, variance in ((0.7, 0.25), (0.0, 0.01), (0.0, 4.0)):
        denoiser = Counting(ExactGaussian(process, mean, variance))
        known = carried(process, x, 1.0, END, mean, variance)
        for tolerance in (1e-3, 1e-5, 1e-7, 1e-9):
            denoiser.times.clear()
            end = end_of(make(rtol=tolerance, atol=tolerance), denoiser, x, (1.0, END))
            # A tolerance is for a step; the errors of tens of steps add up.
            assert (end - known).abs().max() < 30 * tolerance
            calls.append(len(denoiser.times))
    assert calls[0] < calls[2] < calls[3]


@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
def test_states_between_the_solvers_own_times(tolerance):
    process = VariancePreserving(schedule=LogLinear())
    x = torch.tensor([[-1.3], [0.4], [2.0]], dtype=torch.float64)
    times = (*even(LogLinear(), 37, END),)
    sampler = type(TIGHT)(rtol=tolerance, atol=tolerance)
    for state in sampler.trajectory(ExactGaussian(process, 0.7, 0.25), x, times, GivenNoise(), {}):
        known = carried(process, x, 1.0, state.t, 0.7, 0.25)
        # The interpolation is an order below the solver's.
        assert (state.x - known).abs().max() < 300 * tolerance
