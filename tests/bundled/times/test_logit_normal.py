"""Logit-normal training times."""

from __future__ import annotations

import pytest
import torch

from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.times.logit_normal import LogitNormal
from diffkit.bundled.times.uniform import Uniform
from diffkit.testing.reference import UniformLogSNR

from .distances import distance, drawn, esser, limit, on_the_grid

CHOICES = [(0.0, 1.0), (0.7, 0.5), (-0.5, 1.5)]


@pytest.mark.parametrize(("location", "scale"), CHOICES)
def test_the_marginal_on_a_continuous_schedule(location, scale) -> None:
    times = LogitNormal(location=location, scale=scale)
    t, weight = drawn(times, UniformLogSNR())
    assert distance(t[t > 1e-3], esser(location, scale)) < limit(len(t)) + 1e-3
    assert bool((weight == 1).all())


@pytest.mark.parametrize("steps", [5, 1000])
@pytest.mark.parametrize(("location", "scale"), CHOICES)
def test_the_marginal_on_a_grid(location, scale, steps) -> None:
    t, _ = drawn(LogitNormal(location=location, scale=scale), Cosine(steps=steps))
    assert distance(t, on_the_grid(esser(location, scale), steps)) < limit(len(t))


def test_the_distance_tells_laws_apart() -> None:
    t, _ = drawn(Uniform(), UniformLogSNR())
    assert distance(t, esser(0.0, 1.0)) > 10 * limit(len(t))
    t, _ = drawn(LogitNormal(location=0.05), UniformLogSNR())
    assert distance(t, esser(0.0, 1.0)) > limit(len(t))
    t, _ = drawn(LogitNormal(), Cosine(steps=20))
    assert distance(t, on_the_grid(esser(0.05, 1.0), 20)) > limit(len(t))


@pytest.mark.parametrize("location", [-100.0, 0.0, 100.0])
def test_the_ends_are_times(location) -> None:
    ends = torch.tensor([0.0, 2**-53, 0.5, 1 - 2**-53], dtype=torch.float64)
    for schedule in (UniformLogSNR(), Cosine(steps=10)):
        t, _ = LogitNormal(location=location, scale=3.0).draw(ends, schedule)
        assert bool(((t >= schedule.t_min) & (t <= 1)).all())
        assert bool((t.diff() <= 0).all())
        assert t[0] == 1.0
