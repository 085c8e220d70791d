"""Noise sources."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from diffkit.core.noise import BatchNoise, SampleNoise, mix

# Machines differ in speed; a law does not.
settings.register_profile("laws", deadline=None, max_examples=50)
settings.load_profile("laws")

DRAWS = ["normal", "uniform"]
seeds = st.integers(-(2**64), 2**64)


@pytest.mark.parametrize("draw", DRAWS)
@given(seed=seeds, index=st.integers(0, 2**63), others=st.lists(st.integers(0, 2**63), max_size=6))
def test_a_sample_does_not_depend_on_its_batch(draw, seed, index, others):
    alone = SampleNoise(seed=seed, indices=[index])
    among = SampleNoise(seed=seed, indices=[*others, index])
    for _ in range(3):
        single = getattr(alone, draw)((1, 2, 3))
        several = getattr(among, draw)((1 + len(others), 2, 3))
        assert torch.equal(single[0], several[-1])


def test_kinds_of_draws_may_alternate():
    alone = SampleNoise(seed=3, indices=[6])
    seven = SampleNoise(seed=3, indices=range(7))
    for draw in ("normal", "uniform", "uniform", "normal"):
        assert torch.equal(getattr(alone, draw)((1, 5))[0], getattr(seven, draw)((7, 5))[6])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("draw", DRAWS)
def test_same_seed_same_numbers(draw, dtype):
    first, second = (SampleNoise(seed=1, indices=[0, 9], dtype=dtype) for _ in range(2))
    for _ in range(3):
        numbers = getattr(first, draw)((2, 4))
        assert numbers.dtype == dtype
        assert torch.equal(numbers, getattr(second, draw)((2, 4)))


def test_nothing_repeats_between_seeds_samples_and_draws():
    seen = []
    for seed in (0, 1, -1, 2**63, 2**64 + 1):
        noise = SampleNoise(seed=seed, indices=[0, 1, 2, 2**63, 2**64 - 1], dtype=torch.float64)
        seen += [noise.normal((5, 50)).flatten() for _ in range(4)]
    numbers = torch.cat(seen)
    # Of 5,000 float64 normals two are equal with a chance below 1e-8.
    assert len(numbers.unique()) == len(numbers)


def test_negative_and_large_seeds_are_seeds_of_their_own():
    rows = [SampleNoise(seed=s, indices=[0]).normal((1, 4)) for s in (5, -5, 5 + 2**64)]
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


@pytest.mark.parametrize("index", [-1, 2**64])
def test_an_index_is_a_64_bit_count(index):
    with pytest.raises(OverflowError):
        SampleNoise(seed=0, indices=[index])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments_and_law(dtype):
    samples, size = 400, 100
    noise = SampleNoise(seed=2024, indices=range(samples), dtype=dtype)
    normal = noise.normal((samples, size)).double().numpy()
    uniform = noise.uniform((samples, size)).double().numpy()
    count = samples * size
    # Every bound is 5 standard errors, or p = 1e-6: ten of them give a false alarm once in
    # 100,000 seeds, and this seed gives none.
    assert abs(normal.mean()) < 5 / math.sqrt(count)
    assert abs(normal.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((normal**4).mean() - 3) < 5 * math.sqrt(96 / count)
    assert kstest(normal.ravel(), "norm").pvalue > 1e-6
    assert kstest(uniform.ravel(), "uniform").pvalue > 1e-6
    assert uniform.min() >= 0.0
    assert uniform.max() < 1.0
    assert abs(uniform.mean() - 0.5) < 5 / math.sqrt(12 * count)
    # Neighbouring samples, draws and coordinates are uncorrelated.
    pairs = (
        (normal[1:], normal[:-1]),
        (normal[:, 1:], normal[:, :-1]),
        (normal, uniform - uniform.mean()),
    )
    for a, b in pairs:
        correlation = (a * b).mean() / (a.std() * b.std())
        assert abs(correlation) < 5 / math.sqrt(a.size)


@pytest.mark.parametrize("draw", DRAWS)
def test_the_global_generators_are_left_alone(draw):
    torch.manual_seed(0)
    np.random.seed(0)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    getattr(SampleNoise(seed=1, indices=[0]), draw)((1, 8))
    getattr(BatchNoise(seed=1, step=0, rows=range(1), total=1), draw)((1, 8))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()
    # Nor do they reach the numbers.
    first = getattr(SampleNoise(seed=1, indices=[0]), draw)((1, 8))
    torch.manual_seed(7)
    assert torch.equal(first, getattr(SampleNoise(seed=1, indices=[0]), draw)((1, 8)))


@pytest.mark.parametrize("shape", [(3, 4), (2,)])
def test_a_shape_of_another_batch_is_refused(shape):
    with pytest.raises(ValueError, match="noise for 2 samples"):
        SampleNoise(seed=0, indices=[0, 1]).normal(shape)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_shards_of_a_batch_make_the_whole(draw, processes):
    total = 8
    whole = BatchNoise(seed=3, step=11, rows=range(total), total=total)
    share = total // processes
    shards = [
        BatchNoise(seed=3, step=11, rows=range(p * share, (p + 1) * share), total=total)
        for p in range(processes)
    ]
    strided = [
        BatchNoise(seed=3, step=11, rows=range(p, total, processes), total=total)
        for p in range(processes)
    ]
    for _ in range(2):
        expected = getattr(whole, draw)((total, 2, 3))
        parts = [getattr(shard, draw)((share, 2, 3)) for shard in shards]
        assert torch.equal(torch.cat(parts), expected)
        for p, shard in enumerate(strided):
            assert torch.equal(getattr(shard, draw)((share, 2, 3)), expected[p::processes])


def test_batches_differ_between_steps_seeds_and_draws():
    def first(seed, step):
        return BatchNoise(seed=seed, step=step, rows=range(2), total=2).normal((2, 50))

    noise = BatchNoise(seed=0, step=0, rows=range(2), total=2)
    draws = [noise.normal((2, 50)), noise.normal((2, 50)), first(0, 1), first(1, 0), first(-1, 0)]
    assert torch.equal(draws[0], first(0, 0))
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert not torch.isclose(a, b, rtol=0, atol=0).any()


@given(seed=seeds, step=st.integers(0, 10**9))
def test_mixed_seeds_fit_every_generator_and_differ(seed, step):
    mixed = {mix(seed, "batch", step), mix(seed, "batch", step + 1), mix(seed + 1, "batch", step)}
    mixed |= {mix(seed, "samples", step), mix(seed, "batch")}
    assert len(mixed) == 5
    assert all(0 <= m < 2**63 for m in mixed)
