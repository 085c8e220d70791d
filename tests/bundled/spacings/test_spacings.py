"""Where a trajectory stops."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.leading import Leading
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.schedule import NoiseSchedule
from diffkit.errors import ComponentError

# Machines differ in speed; a law does not.
settings.register_profile("laws", deadline=None, max_examples=50)
settings.load_profile("laws")

LINEAR = Linear()
SHORT = Cosine(steps=7)


class Continuous(NoiseSchedule):
    """log_snr = -2 log t: finite at 1."""

    t_min = 1e-3

    def log_snr(self, t):
        return -2 * torch.as_tensor(t, dtype=torch.float64).log()

    def time_at(self, log_snr):
        return torch.exp(-log_snr / 2)


@st.composite
def grids(draw):
    schedule = draw(st.sampled_from([LINEAR, SHORT]))
    return draw(st.integers(1, schedule.steps)), schedule


@pytest.mark.parametrize("spacing", [Trailing(), Leading()])
@given(asked=grids())
def test_times_are_on_the_grid_decrease_and_end_at_zero(spacing, asked):
    steps, schedule = asked
    times = spacing.times(steps, schedule)
    assert len(times) == steps + 1
    assert all(isinstance(t, float) for t in times)
    assert times[-1] == 0.0
    assert all(t > s for t, s in pairwise(times))
    grid = {k / schedule.steps for k in range(schedule.steps + 1)}
    assert set(times) <= grid


@given(asked=grids())
def test_trailing_starts_where_the_prior_is(asked):
    steps, schedule = asked
    assert Trailing().times(steps, schedule)[0] == 1.0


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 30, 50, 64, 250, 999, 1000])
def test_trailing_rounds_an_even_division(steps):
    indices = [round(1000 * t) for t in Trailing().times(steps, LINEAR)]
    assert indices == [round(1000 - i * 1000 / steps) for i in range(steps)] + [0]
    # Rounding to the grid leaves each stride within one of the even one.
    assert all(abs((a - b) - 1000 / steps) <= 1 for a, b in pairwise(indices))


def test_trailing_of_three():
    assert Trailing().times(3, LINEAR) == (1.0, 0.667, 0.333, 0.0)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 30, 50, 64, 250, 999, 1000])
def test_leading_ends_at_the_first_noise_level(steps):
    indices = [round(1000 * t) for t in Leading().times(steps, LINEAR)]
    assert indices == [1 + j * (1000 // steps) for j in reversed(range(steps))] + [0]


def test_leading_of_four_and_its_flaw():
    assert Leading().times(4, LINEAR) == (0.751, 0.501, 0.251, 0.001, 0.0)
    assert Leading().times(50, LINEAR)[0] == 0.981
    assert Leading().times(1000, LINEAR) == Trailing().times(1000, LINEAR)


@given(steps=st.integers(1, 5000))
def test_trailing_on_a_continuous_schedule(steps):
    times = Trailing().times(steps, Continuous())
    assert times[0] == 1.0
    assert times[-1] == 0.0
    assert len(times) == steps + 1
    assert all(t > s for t, s in pairwise(times))
    # Each time is within a rounding of even.
    assert all(abs(t - (1 - i / steps)) < 1e-15 for i, t in enumerate(times))


def test_leading_needs_a_grid():
    with pytest.raises(ComponentError, match="use the spacing 'trailing'"):
        Leading().times(10, Continuous())
    assert "trailing" in next(iter(Leading.requires(None, {"schedule.steps": None})))
    assert not list(Leading.requires(None, {"schedule.steps": 1000}))


@pytest.mark.parametrize("spacing", [Trailing(), Leading()])
@pytest.mark.parametrize("steps", [-1, 0, 8])
def test_impossible_numbers_of_steps(spacing, steps):
    with pytest.raises(ComponentError, match=rf"at least 1 and at most 7, .* not {steps}"):
        spacing.times(steps, SHORT)


def test_impossible_numbers_of_steps_without_a_grid():
    with pytest.raises(ComponentError, match="at least 1, not 0"):
        Trailing().times(0, Continuous())
