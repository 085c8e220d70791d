"""Ancestral sampling."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.leading import Leading
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.denoiser import Denoiser
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.noise import Noise, SampleNoise
from diffkit.core.prediction import Prediction
from diffkit.errors import ComponentError
from diffkit.testing import ExactGaussian, ExactMixture, OracleModel

LINEAR, COSINE = Linear(), Cosine()


CURVES = [VariancePreserving, VarianceExploding, RectifiedFlow]
every_curve = pytest.mark.parametrize("curve", CURVES)


class GivenNoise(Noise):
    """Returns the same rows at every draw, and counts."""

    def __init__(self, rows):
        self.rows, self.draws = rows, 0

    def normal(self, shape):
        self.draws += 1
        return self.rows.expand(*shape)

    def uniform(self, shape):
        raise AssertionError("ancestral sampling draws normal numbers only")


class Counting(Denoiser):
    """Counts calls, notes times, and may declare a range."""

    def __init__(self, inner, data_range=None):
        self.inner, self.range, self.times = inner, data_range, []

    @property
    def process(self):
        return self.inner.process

    @property
    def data_range(self):
        return self.range

    def __call__(self, x_t, t, *, given=None, times=None):
        self.times.append(t)
        return self.inner(x_t, t)


def moments(denoiser, sampler, times, mean, variance):
    """Mean and variance at the end of a trajectory, exactly, where the denoiser is affine.

    Each step maps x to slope x + offset + deviation * noise; three rows tell all three.
    """
    probes = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
    noise = GivenNoise(torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64))
    for t, s in pairwise(times):
        offset, at_one, with_noise = sampler.step(denoiser, probes, t, s, noise).x.flatten()
        slope, deviation = (at_one - offset).item(), (with_noise - offset).item()
        mean = slope * mean + offset.item()
        variance = slope**2 * variance + deviation**2
    return mean, variance


def from_the_marginal(curve, schedule, sampler, steps, mean=0.0, data_variance=1.0):
    """Moments of a trajectory that starts from the exact marginal at t = 1."""
    process = curve(schedule=schedule)
    alpha, sigma = (c.item() for c in process.scales(process.log_snr(1.0)))
    return moments(
        ExactGaussian(process, mean, data_variance),
        sampler,
        Trailing().times(steps, schedule),
        alpha * mean,
        alpha**2 * data_variance + sigma**2,
    )


@every_curve
def test_fixed_large_in_50_steps_on_every_process(curve):
    _, variance = from_the_marginal(curve, LINEAR, DDPM(variance="fixed_large"), 50)
    # Five digits are known.
    assert variance == pytest.approx(0.99423, abs=5e-6)


def test_processes_differ_by_rounding_only():
    for variance in ("fixed_small", "fixed_large"):
        ends = [from_the_marginal(c, LINEAR, DDPM(variance=variance), 50) for c in CURVES]
        # Fifty steps, each good to 1e-14.
        assert ends[1] == pytest.approx(ends[0], rel=1e-12, abs=1e-12)
        assert ends[2] == pytest.approx(ends[0], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("variance", "known"), [("fixed_large", 0.9999000), ("fixed_small", 0.9910674)]
)
def test_unit_variance_data_on_the_whole_grid(variance, known):
    mean, end = from_the_marginal(VariancePreserving, LINEAR, DDPM(variance=variance), 1000)
    # Seven digits are known.
    assert end == pytest.approx(known, abs=5e-8)
    assert mean == 0.0


def test_fixed_large_keeps_unit_variance_until_the_last_step():
    # Exact for unit-variance data; the last step, to clean data, multiplies by alpha_1.
    for steps in (10, 1000):
        times = Trailing().times(steps, LINEAR)
        denoiser = ExactGaussian(VariancePreserving(schedule=LINEAR))
        sampler = DDPM(variance="fixed_large")
        # A thousand steps, each good to 1e-13.
        assert moments(denoiser, sampler, times[:-1], 0.0, 1.0)[1] == pytest.approx(1, abs=1e-11)
        last = torch.sigmoid(LINEAR.log_snr(times[-2])).item()
        assert moments(denoiser, sampler, times, 0.0, 1.0)[1] == pytest.approx(last, abs=1e-11)


@every_curve
@pytest.mark.parametrize("steps", [1, 10, 200])
def test_fixed_small_is_exact_for_data_that_are_one_point(curve, steps):
    mean, variance = from_the_marginal(curve, COSINE, DDPM(), steps, mean=1.5, data_variance=0.0)
    assert mean == pytest.approx(1.5, rel=1e-14)
    assert variance == 0.0


@every_curve
def test_more_steps_come_nearer_to_the_data(curve):
    for sampler in (DDPM(variance="fixed_small"), DDPM(variance="fixed_large")):
        ends = [
            from_the_marginal(curve, LINEAR, sampler, steps, mean=0.7, data_variance=0.25)
            for steps in (20, 100, 500)
        ]
        misses = [abs(variance - 0.25) for _, variance in ends]
        assert misses[0] > misses[1] > misses[2]
        assert all(mean == pytest.approx(0.7, abs=0.01) for mean, _ in ends)


@pytest.mark.parametrize("sampling", CURVES)
@pytest.mark.parametrize("trained", CURVES)
def test_a_network_trained_under_cosine_samples_linear(trained, sampling):
    trained, sampling = trained(schedule=COSINE), sampling(schedule=LINEAR)
    model = OracleModel(denoiser=ExactGaussian(trained), parameterization=Velocity())
    denoiser = GaussianDenoiser(model, Velocity(), trained, sampling)
    alpha, sigma = (c.item() for c in sampling.scales(sampling.log_snr(1.0)))
    times, sampler = Trailing().times(50, LINEAR), DDPM(variance="fixed_large")
    _, variance = moments(denoiser, sampler, times, 0.0, alpha**2 + sigma**2)
    # Five digits are known; telling the time in float32 costs 1e-6.
    assert variance == pytest.approx(0.99423, abs=8e-6)


def test_a_mixture_is_sampled():
    process = VariancePreserving(schedule=COSINE)
    exact = ExactMixture(process, [[-1.0], [1.0]], 0.01, [1.0, 3.0])
    count, times = 4000, Trailing().times(100, COSINE)
    noise = SampleNoise(seed=0, indices=range(count), dtype=torch.float64)
    x = process.prior((count, 1), noise)
    *_, end = DDPM(variance="fixed_large").trajectory(exact, x, times, noise, {})
    right = end.x > 0
    # Five standard errors (once in 1.7 million) and 0.01 for what 100 steps miss.
    assert right.double().mean().item() == pytest.approx(
        0.75, abs=5 * (0.1875 / count) ** 0.5 + 0.01
    )
    assert end.x[right].mean().item() == pytest.approx(1.0, abs=5 * 0.1 / 3000**0.5 + 0.01)
    assert 0.05 < end.x[right].std().item() < 0.12


def trajectory(denoiser, sampler, times, seed=0, indices=(0, 1), shape=(2, 2), dtype=torch.float32):
    noise = SampleNoise(seed=seed, indices=indices, dtype=dtype)
    x = denoiser.process.prior((len(indices), *shape), noise)
    return list(sampler.trajectory(denoiser, x, times, noise, {}))


@pytest.fixture
def denoiser():
    process = VariancePreserving(schedule=LINEAR)
    return Counting(ExactMixture(process, [[-1.0, 0.0, 0.5, 1.0], [1.0] * 4], [0.1, 0.2]))


@pytest.mark.parametrize("steps", [1, 2, 13])
@pytest.mark.parametrize("spacing", [Trailing(), Leading()])
def test_one_model_call_and_one_state_a_step(denoiser, spacing, steps):
    times = spacing.times(steps, LINEAR)
    states = trajectory(denoiser, DDPM(), times)
    assert denoiser.times == list(times[:-1])
    assert [state.t for state in states] == list(times[1:])
    assert all(state.prediction.x_t.shape == state.x.shape for state in states)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_the_last_step_draws_no_noise_and_ends_at_the_prediction(denoiser, variance):
    noise = GivenNoise(torch.ones(1, 1))
    x = torch.linspace(-1, 1, 8).reshape(2, 4)
    *_, end = DDPM(variance=variance).trajectory(
        denoiser, x, Trailing().times(7, LINEAR), noise, {}
    )
    assert noise.draws == 6
    assert torch.equal(end.x, end.prediction.x_0)


@pytest.mark.parametrize("last", [0.25, 0.001])
def test_a_trajectory_that_stops_early_adds_noise_at_its_last_step(denoiser, last):
    noise = GivenNoise(torch.ones(1, 1))
    list(DDPM().trajectory(denoiser, torch.ones(2, 4), (1.0, 0.5, last), noise, {}))
    assert noise.draws == 2


def test_inputs_and_yielded_states_are_not_written(denoiser):
    x, noise = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)), torch.ones(2, 4)
    kept_x, kept = x.clone(), []
    source = GivenNoise(noise)
    for state in DDPM().trajectory(denoiser, x, Trailing().times(5, LINEAR), source, {}):
        kept.append((state, state.x.clone()))
    assert torch.equal(x, kept_x)
    assert torch.equal(noise, torch.ones(2, 4))
    assert all(torch.equal(state.x, copy) for state, copy in kept)


def test_the_global_generators_are_left_alone(denoiser):
    torch.manual_seed(1)
    np.random.seed(1)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    trajectory(denoiser, DDPM(), Trailing().times(5, LINEAR))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_the_noise_source_decides_everything(denoiser):
    times = Trailing().times(10, LINEAR)
    first = trajectory(denoiser, DDPM(), times, seed=3)[-1].x
    torch.manual_seed(99)
    assert torch.equal(first, trajectory(denoiser, DDPM(), times, seed=3)[-1].x)
    assert not torch.equal(first, trajectory(denoiser, DDPM(), times, seed=4)[-1].x)


def test_a_sample_does_not_depend_on_its_batch(denoiser):
    times = Trailing().times(10, LINEAR)
    options = {"seed": 3, "dtype": torch.float64}
    alone = trajectory(denoiser, DDPM(), times, indices=[6], **options)[-1].x
    seven = trajectory(denoiser, DDPM(), times, indices=range(7), **options)[-1].x
    # The same noise; sums in another order by the kernels, over ten steps.
    assert torch.allclose(alone[0], seven[6], rtol=0, atol=1e-13)
    assert not torch.allclose(alone[0], seven[5], rtol=0, atol=1e-3)


def test_samples_keep_their_dtype():
    process = VariancePreserving(schedule=LINEAR)
    states = trajectory(ExactGaussian(process), DDPM(), (1.0, 0.5, 0.0), dtype=torch.bfloat16)
    assert all(state.x.dtype == torch.bfloat16 for state in states)


def test_it_needs_a_gaussian_prediction():
    class Other(Prediction):
        x_0 = torch.zeros(1)

    class Stub(ExactGaussian):
        def __call__(self, x_t, t, *, given=None, times=None):
            return Other()

    stub = Stub(VariancePreserving(schedule=LINEAR))
    with pytest.raises(ComponentError, match="no Gaussian prediction"):
        trajectory(stub, DDPM(), (1.0, 0.0))


def test_an_unknown_variance_is_refused():
    with pytest.raises(ComponentError, match="fixed_small, fixed_large, learned_range"):
        DDPM(variance="learned")
