"""Uniform training times."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.times.uniform import Uniform
from diffkit.core.noise import SampleNoise
from diffkit.core.schedule import NoiseSchedule

# Machines differ in speed; a law does not.
settings.register_profile("laws", deadline=None, max_examples=50)
settings.load_profile("laws")

SCHEDULES = {n: Cosine(steps=n) for n in (1, 7, 50, 100, 999, 1000, 4000)}
LAST_BELOW_ONE = 1 - 2**-53


class Continuous(NoiseSchedule):
    t_min = 0.01

    def log_snr(self, t):
        return -2 * torch.as_tensor(t, dtype=torch.float64).log()

    def time_at(self, log_snr):
        return torch.exp(-log_snr / 2)


def uniform(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize("steps", SCHEDULES)
def test_every_index_has_an_equal_share(steps):
    schedule = SCHEDULES[steps]
    # The middle of each of T equal intervals falls on each index once, and so do both its ends
    # but for the first: rounding must not move what is exactly between two indices by one.
    middles = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    starts = torch.arange(steps, dtype=torch.float64) / steps
    for numbers in (middles, starts, (starts + 0.999 / steps)):
        t, weight = Uniform().draw(numbers, schedule)
        indices = t * steps
        assert indices.round().flip(0).tolist() == list(range(1, steps + 1))
        assert (indices - indices.round()).abs().max() < 1e-9
        assert torch.equal(weight, torch.ones_like(t))


@given(numbers=st.lists(st.floats(0, LAST_BELOW_ONE), min_size=1), n=st.sampled_from([7, 1000]))
def test_times_are_float64_on_the_grid_and_never_zero(numbers, n):
    t, _ = Uniform().draw(uniform(*numbers), SCHEDULES[n])
    assert t.dtype == torch.float64
    assert t.min() >= 1 / n
    assert t.max() <= 1.0
    assert torch.equal(t, (t * n).round() / n)


def test_both_ends_are_reached():
    t, _ = Uniform().draw(uniform(0.0, 0.0009999, LAST_BELOW_ONE, 0.9990001), Linear())
    assert t.tolist() == [1.0, 1.0, 0.001, 0.001]


def test_a_continuous_schedule_gets_what_was_drawn():
    t, weight = Uniform().draw(uniform(0.0, 0.25, 0.999), Continuous())
    assert t.tolist() == [1.0, 0.75, 0.01]
    assert weight.tolist() == [1.0] * 3


def test_the_law_of_random_draws():
    noise = SampleNoise(seed=0, indices=[0], dtype=torch.float64)
    t, _ = Uniform().draw(noise.uniform((1, 50_000))[0], SCHEDULES[50])
    counts = torch.bincount((t * 50).round().long(), minlength=51)
    assert counts[0] == 0
    # A false alarm once in a million seeds; this seed gives none.
    assert chisquare(counts[1:].numpy()).pvalue > 1e-6
