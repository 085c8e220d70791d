"""Times spread evenly over a batch."""

from __future__ import annotations

import pytest
import torch

from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.times.logit_normal import LogitNormal
from diffkit.bundled.times.stratified import Stratified
from diffkit.bundled.times.uniform import Uniform
from diffkit.core.noise import SampleNoise
from diffkit.testing.reference import UniformLogSNR

from .distances import FALSE_ALARM, distance, esser, limit, on_the_grid

BATCHES, SIZE = 5000, 7


def batches(times, schedule, size=SIZE):
    """Times of many batches, `[batch, row]`."""
    noise = SampleNoise(seed=3, indices=[0], dtype=torch.float64)
    uniform = noise.uniform((1, BATCHES, size))[0]
    return torch.stack([times.draw(numbers, schedule).t for numbers in uniform])


@pytest.mark.parametrize("schedule", [UniformLogSNR(), Linear(steps=10, rescale=False)])
def test_each_row_is_uniform(schedule) -> None:
    t = batches(Stratified(), schedule)
    law = (lambda t: t) if schedule.steps is None else on_the_grid(lambda t: t, schedule.steps)
    for row in t.T:
        # What lies below t_min is moved there, a thousandth of the continuous schedule.
        assert distance(row, law) < limit(BATCHES, FALSE_ALARM / SIZE) + 1e-3


def test_each_row_has_the_law_it_is_given() -> None:
    t = batches(Stratified(distribution=LogitNormal(location=0.5)), Linear())
    law = on_the_grid(esser(0.5, 1.0), 1000)
    for row in t.T:
        assert distance(row, law) < limit(BATCHES, FALSE_ALARM / SIZE)


@pytest.mark.parametrize("size", [1, 2, 7, 128])
def test_a_batch_has_one_time_in_each_of_n_parts(size) -> None:
    for t in batches(Stratified(), UniformLogSNR(), size)[:50]:
        ordered = t.sort().values
        # Neighbours are 1/n apart, and so are the ends around the circle.
        assert torch.allclose(ordered.diff(), torch.full((size - 1,), 1 / size).double(), atol=2e-3)
        parts = ((1 - t) * size).floor().long().clamp(0, size - 1)
        if float(t.min()) > 1e-3:
            assert sorted(parts.tolist()) == list(range(size))


def test_a_grid_of_as_many_times_is_visited_once_each() -> None:
    schedule = Linear(steps=50, rescale=False)
    for t in batches(Stratified(), schedule, 50)[:50]:
        assert sorted((t * 50).round().long().tolist()) == list(range(1, 51))


def test_means_of_batches_vary_less() -> None:
    spread, independent = (
        (batches(times, UniformLogSNR(), 16).square().mean(1).var())
        for times in (Stratified(), Uniform())
    )
    # Of t^2: (4/45)/16 for independent ones, and of order 1/16^2 for even ones.
    assert float(independent) == pytest.approx(4 / 45 / 16, rel=0.2)
    assert float(spread) < 0.1 * float(independent)


def test_the_first_number_decides() -> None:
    uniform = torch.tensor([0.3, 0.9, 0.1], dtype=torch.float64)
    other = torch.tensor([0.3, 0.2, 0.7], dtype=torch.float64)
    one, two = (Stratified().draw(u, UniformLogSNR()).t for u in (uniform, other))
    assert torch.equal(one, two)
    assert one.tolist() == pytest.approx([0.7, 0.7 - 1 / 3, 0.7 - 2 / 3])


def test_numbers_just_below_one_stay_in_range() -> None:
    for size in (1, 3, 7, 49):
        uniform = torch.full((size,), 1 - 2**-53, dtype=torch.float64)
        t, _ = Stratified().draw(uniform, UniformLogSNR())
        assert bool(((t > 0) & (t <= 1)).all())
