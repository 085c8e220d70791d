"""Importance sampling of times."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.times.importance import Importance
from diffkit.bundled.times.stratified import Stratified
from diffkit.bundled.times.uniform import Uniform
from diffkit.core.noise import SampleNoise
from diffkit.testing.reference import UniformLogSNR

from .distances import distance, limit

STEPS = 20
SCHEDULE = Linear(steps=STEPS, rescale=False)
GRID = (torch.arange(STEPS, dtype=torch.float64) + 1) / STEPS
MEAN = 3.0 * torch.exp(-4.0 * GRID) + 0.1
"""A known loss by time: E[L_t]; about it L_t is uniform, half to three halves."""
ROOT = MEAN * (1 + 1 / 12) ** 0.5
"""The root of its second moment: the variance of a uniform number of width 1 is 1/12."""


def uniform_numbers(seed, *shape):
    return SampleNoise(seed=seed, indices=[0], dtype=torch.float64).uniform((1, *shape))[0]


def rows_of(t):
    return (t * STEPS).round().long() - 1


def train(times, state, updates, batch=32, seed=0, weigh=True):
    """The state after updates that give the losses above."""
    numbers = uniform_numbers(seed, updates, 2, batch)
    for uniform, spread in numbers:
        t, weight = times.draw_learned(uniform, SCHEDULE, state)
        values = (weight if weigh else 1.0) * MEAN[rows_of(t)] * (0.5 + spread)
        state = times.update(state, t, values)
    return state


def probabilities(times, state):
    """`p_t` as draws have it, from so many even numbers that each share is known to 1e-5."""
    count = 100_000 * STEPS
    even = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    t, _ = times.draw_learned(even, SCHEDULE, state)
    return torch.bincount(rows_of(t), minlength=STEPS).double() / count


def test_before_every_history_is_full_it_is_uniform() -> None:
    times, numbers = Importance(history=4), uniform_numbers(5, 1000)
    state = times.init(SCHEDULE)
    for k in range(STEPS):
        for drawn in (times.draw_learned(numbers, SCHEDULE, state), times.draw(numbers, SCHEDULE)):
            expected = Uniform().draw(numbers, SCHEDULE)
            assert torch.equal(drawn.t, expected.t)
            assert torch.equal(drawn.weight, expected.weight)
        state = times.update(state, GRID[[k]].expand(4), torch.full((4,), 1.0 + k).double())
    assert not torch.equal(times.draw_learned(numbers, SCHEDULE, state).t, expected.t)


def test_a_history_is_the_last_losses_in_order() -> None:
    times, together = Importance(history=3), Importance(history=3)
    t = GRID[torch.tensor([4, 1, 4, 4, 1, 4, 4, 9])]
    values = torch.arange(1.0, 9.0, dtype=torch.float64)
    one, all_at_once = times.init(SCHEDULE), together.init(SCHEDULE)
    for k in range(len(t)):
        one = times.update(one, t[[k]], values[[k]])
    all_at_once = together.update(all_at_once, t, values)
    assert torch.equal(one["losses"], all_at_once["losses"])
    assert torch.equal(one["counts"], all_at_once["counts"])
    assert sorted(one["losses"][4].tolist()) == [4.0, 6.0, 7.0]
    assert sorted(one["losses"][1].tolist()) == [0.0, 2.0, 5.0]
    assert one["counts"][[1, 4, 9]].tolist() == [2, 5, 1]


def test_probabilities_are_those_of_eq_18() -> None:
    times = Importance(history=2, uniform_share=0.25)
    losses = torch.stack([MEAN, 3 * MEAN], dim=1)
    state = times.update(times.init(SCHEDULE), GRID.repeat_interleave(2), losses.flatten())
    root = losses.square().mean(1).sqrt()
    expected = 0.75 * root / root.sum() + 0.25 / STEPS
    assert torch.allclose(probabilities(times, state), expected, rtol=0, atol=1e-6)
    t, weight = times.draw_learned(uniform_numbers(1, 500), SCHEDULE, state)
    assert torch.allclose(weight, 1 / (STEPS * expected[rows_of(t)]), rtol=1e-12, atol=0)


def test_the_weighted_loss_keeps_its_expectation() -> None:
    times = Importance(history=10)
    state = train(times, times.init(SCHEDULE), 200)
    p = probabilities(times, state)
    # Exactly, over the grid: sum_t p_t (1 / (T p_t)) L_t is the mean of L_t.
    t, weight = times.draw_learned(1 - p.cumsum(0).clamp(max=1) + p / 2, SCHEDULE, state)
    assert torch.equal(rows_of(t), torch.arange(STEPS))
    # Shares are counted to 1e-6, of at least 0.004 a time.
    assert float((p * weight * MEAN).sum()) == pytest.approx(float(MEAN.mean()), rel=1e-3)
    assert torch.allclose(p * weight, torch.full_like(p, 1 / STEPS), rtol=1e-3, atol=0)
    # By draws: five standard errors, but once in 1.7 million.
    t, weight = times.draw_learned(uniform_numbers(9, 50_000), SCHEDULE, state)
    values = weight * MEAN[rows_of(t)]
    assert abs(float(values.mean() - MEAN.mean())) < 5 * float(values.std()) / 50_000**0.5


def test_it_converges_to_the_root_of_the_second_moment() -> None:
    times = Importance(history=1000, uniform_share=1e-6)
    t = GRID.repeat_interleave(1000)
    values = MEAN.repeat_interleave(1000) * (0.5 + uniform_numbers(2, len(t)))
    state = times.update(times.init(SCHEDULE), t, values)
    # A thousand squares, of relative deviation 0.56, give a root to 0.9 % each; 6 of those.
    relative = probabilities(times, state) / (ROOT / ROOT.sum())
    assert float((relative - 1).abs().max()) < 6 * 0.009


def test_weights_in_the_losses_are_divided_out() -> None:
    times = Importance(history=10)
    state = times.init(SCHEDULE)
    p = torch.zeros(STEPS, dtype=torch.float64)
    for seed in range(20):
        state = train(times, state, 100, seed=seed)
        p += probabilities(times, state) / 20
    expected = 0.999 * ROOT / ROOT.sum() + 0.001 / STEPS
    # Ten losses give the root to 9 %; the mean of 20 states, at least 60 % anew each, to 3 %.
    assert float((p / expected - 1).abs().max()) < 0.12
    for seed in range(20):
        state = train(times, state, 100, seed=seed, weigh=False)
    # Losses without their weights are taken for others.
    assert float((probabilities(times, state) / expected - 1).abs().max()) > 0.3


def test_the_variance_is_less_than_that_of_uniform_times() -> None:
    times = Importance()
    state = train(times, times.init(SCHEDULE), 200)
    numbers = uniform_numbers(4, 20_000)
    ours, theirs = times.draw_learned(numbers, SCHEDULE, state), Uniform().draw(numbers, SCHEDULE)
    variances = [(weight * MEAN[rows_of(t)]).var() for t, weight in (ours, theirs)]
    assert variances[0] < 0.2 * variances[1]


def test_the_marginal_of_draws() -> None:
    times = Importance()
    state = train(times, times.init(SCHEDULE), 200)
    up_to = probabilities(times, state).cumsum(0)
    t, _ = times.draw_learned(uniform_numbers(6, 100_000), SCHEDULE, state)

    def law(t):
        k = (t * STEPS + 1e-9).floor().long()
        return torch.cat([torch.zeros(1).double(), up_to])[k.clamp(0, STEPS)]

    assert distance(t, law) < limit(len(t)) + 1e-5


def test_losses_of_zero_leave_it_uniform() -> None:
    times = Importance(history=1)
    state = times.update(times.init(SCHEDULE), GRID, torch.zeros(STEPS).double())
    assert times.draw_learned(uniform_numbers(1, 9), SCHEDULE, state).weight.tolist() == [1.0] * 9


def test_no_weight_exceeds_the_inverse_of_the_uniform_share() -> None:
    times = Importance(history=1, uniform_share=0.01)
    values = torch.zeros(STEPS).double()
    values[3] = 1e30
    state = times.update(times.init(SCHEDULE), GRID, values)
    ends = torch.tensor([0.0, 1e-9, 0.5, 1 - 2**-53], dtype=torch.float64)
    t, weight = times.draw_learned(ends, SCHEDULE, state)
    assert t[0] == 1.0
    assert t[-1] == GRID[0]
    assert float(weight.max()) == pytest.approx(100.0)


def test_a_continuous_schedule_is_refused_before_training() -> None:
    with pytest.raises(diffkit.ComponentError, match="continuous"):
        Importance().init(UniformLogSNR())
    with pytest.raises(diffkit.SpecError, match="times: importance keeps a history"):
        diffkit.build({"schedule": UniformLogSNR(), "times": "importance", "model": "mlp"})


def test_stratified_draws_of_it_learn_too() -> None:
    alone, spread = Importance(), Stratified(distribution=Importance(every=7))
    assert spread.every == 7
    state = alone.init(SCHEDULE)
    assert spread.init(SCHEDULE).keys() == state.keys()
    learned = train(alone, state, 200)
    assert probabilities(spread, learned).sum() == pytest.approx(1.0)
    numbers = uniform_numbers(8, 1000)
    t, weight = spread.draw_learned(numbers, SCHEDULE, learned)
    counts = torch.bincount(rows_of(t), minlength=STEPS)
    # A thousand even numbers are off by one of 1000 p in each.
    assert float((counts - 1000 * probabilities(alone, learned)).abs().max()) < 1.5
    assert float(weight.mean()) == pytest.approx(1.0, abs=0.05)
