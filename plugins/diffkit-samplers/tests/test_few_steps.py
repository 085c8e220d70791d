"""In a few steps, solvers of third order are no worse than those of second."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from diffkit.bundled.processes.gaussian import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.leading import Leading
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.noise import SampleNoise
from diffkit.testing import ExactMixture
from diffkit_samplers._history import orders
from diffkit_samplers.dpmpp_2m import DPMpp2M
from diffkit_samplers.dpmpp_3m import DPMpp3M
from diffkit_samplers.spacings import Karras, UniformLogSNR
from diffkit_samplers.unipc import UniPC

SPACINGS = [Leading(), Trailing(), UniformLogSNR(), Karras()]


def levels_of(process, times):
    return [process.level(t) for t in times]


def end_of(sampler, denoiser, x, times):
    noise = SampleNoise(seed=0, indices=range(len(x)), dtype=torch.float64)
    *_, state = sampler.walk(denoiser, x, times, noise, {})
    return state.x


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("spacing", SPACINGS, ids=lambda s: type(s).__name__)
def test_five_to_eight_steps(spacing, schedule):
    """Of sharp data, against the flow itself: a walk of so many steps from the same start."""
    process = VariancePreserving(schedule=schedule)
    means = [[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]]
    denoiser = ExactMixture(process, means, [0.02, 0.05, 0.01], [0.5, 0.3, 0.2])
    x = process.prior((64, 2), SampleNoise(seed=1, indices=range(64), dtype=torch.float64))
    first = spacing.times(5, schedule)[0]
    ends = schedule.log_snr(first), schedule.log_snr(schedule.t_min)
    inner = schedule.time_at(torch.lerp(*ends, torch.linspace(0, 1, 250, dtype=torch.float64)))
    exact = end_of(DPMpp2M(), denoiser, x, (first, *inner[1:].tolist(), 0.0))
    for steps in (5, 6, 7, 8):
        times = spacing.times(steps, schedule)
        second, *third = (
            float((end_of(sampler, denoiser, x, times) - exact).square().mean().sqrt())
            for sampler in (DPMpp2M(), DPMpp3M(), UniPC(p=3))
        )
        # A tenth is what solvers of one order differ by here; it was up to nine times as much.
        assert max(third) < 1.15 * second, (steps, second, third)


def test_the_order_is_lowered_at_the_end():
    process = VariancePreserving(schedule=Linear())
    even = levels_of(process, UniformLogSNR().times(40, Linear()))
    assert orders(even, 3)[:-1] == [3] * 38 + [2]
    # The last, to s = 0, has no finite log-SNR, and is of first order whatever is said of it.
    leading = levels_of(process, Leading().times(20, Linear()))
    assert orders(leading, 3)[-3:-1] == [2, 1]
    assert orders(leading, 2)[-3:-1] == [2, 1]
    assert orders(leading, 1) == [1] * 20
    finite = levels_of(process, UniformLogSNR().times(40, Linear())[:-1])
    assert orders(finite, 3) == [3] * 39


def test_long_steps_are_of_second_order():
    process = VariancePreserving(schedule=Linear())
    levels = levels_of(process, UniformLogSNR().times(6, Linear()))
    lengths = [after.half - before.half for before, after in pairwise(levels)]
    assert min(lengths) > 1.0
    assert max(orders(levels, 3)) == 2
    assert math.isinf(levels[-1].half)
