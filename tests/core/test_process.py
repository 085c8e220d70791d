"""Laws of Gaussian processes: the bundled ones, on two schedules."""

from __future__ import annotations

import copy
import math
import re
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.denoiser import ModelDenoiser
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.noise import SampleNoise
from diffkit.core.prediction import GaussianPrediction, Target
from diffkit.errors import ComponentError

# Machines differ in speed; a law does not.
settings.register_profile("laws", deadline=None, max_examples=50)
settings.load_profile("laws")


PROCESSES = {
    f"{curve.__name__}-{type(schedule).__name__}": curve(schedule=schedule)
    for curve in (VariancePreserving, VarianceExploding, RectifiedFlow)
    for schedule in (Linear(), Cosine())
}
every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
# Times at least 1e-4 apart: log-SNRs then differ by 1e-3 or more, and carry an absolute rounding
# error of 4e-15 each, so that their difference is good to 1e-11.
GAP, LAW = 1e-4, 1e-11
# Exactly 0, or far from where float64 loses digits to underflow.
any_time = st.just(0.0) | st.floats(1e-9, 1.0)


@st.composite
def ordered_times(draw, count):
    times = sorted(draw(st.lists(any_time, min_size=count, max_size=count)))
    # Spread what fell too close, without leaving the interval.
    return [(t + i * GAP) / (1 + (count - 1) * GAP) for i, t in enumerate(times)]


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def affine(gaussian_at):
    """Offset, slope and variance of a map from x to a Gaussian, in one call."""
    mean, variance = gaussian_at(column(0.0, 1.0))
    return mean[0, 0], mean[1, 0] - mean[0, 0], torch.as_tensor(variance).flatten()[0]


def close(actual, expected, rel=LAW, floor=0.0):
    assert float(actual) == pytest.approx(float(expected), rel=rel, abs=floor)


@every_process
@given(t=any_time)
def test_scales_have_the_log_snr_of_the_schedule(process, t):
    alpha, sigma = process.scales(process.log_snr(t))
    if t == 0.0:
        assert (alpha, sigma) == (1.0, 0.0)
    else:
        # Near l = 0 the logarithm has no relative accuracy, hence the absolute term.
        close(2 * (alpha.log() - sigma.log()), process.schedule.log_snr(t), 1e-14, 1e-14)


@every_process
@given(t=any_time)
def test_scales_lie_on_their_curve(process, t):
    alpha, sigma = process.scales(process.log_snr(t))
    if isinstance(process, VariancePreserving):
        close(alpha**2 + sigma**2, 1.0, 1e-15)
    elif isinstance(process, RectifiedFlow):
        close(alpha + sigma, 1.0, 1e-15)
    else:
        assert alpha == 1.0


@every_process
@given(times=ordered_times(3))
def test_chapman_kolmogorov(process, times):
    s, u, t = times
    _, first, first_variance = affine(lambda x: process.transition(x, s, u))
    _, second, second_variance = affine(lambda x: process.transition(x, u, t))
    _, jump, jump_variance = affine(lambda x: process.transition(x, s, t))
    close(first * second, jump)
    close(second**2 * first_variance + second_variance, jump_variance)


@every_process
def test_iterating_the_whole_chain_is_diffusing(process):
    x_0, steps = column(-1.0, 0.0, 2.0), process.schedule.steps
    mean, variance = x_0, torch.zeros((), dtype=torch.float64)
    for k in range(steps):
        slope = process.transition(torch.ones(1, 1).double(), k / steps, (k + 1) / steps).mean
        mean, added = process.transition(mean, k / steps, (k + 1) / steps)
        variance = slope.item() ** 2 * variance + added
        if (k + 1) % 250 == 0:
            alpha, sigma = process.scales(process.log_snr((k + 1) / steps))
            # Two roundings a step, and the differences of log-SNR carry 1e-13 each.
            assert torch.allclose(mean, alpha * x_0, rtol=1e-11, atol=0)
            close(variance, sigma**2)


@every_process
@given(t=st.floats(GAP, 1.0))
def test_transition_from_clean_data_is_diffusion(process, t):
    alpha, sigma = process.scales(process.log_snr(t))
    _, slope, variance = affine(lambda x: process.transition(x, 0.0, t))
    close(slope, alpha, 1e-15)
    close(variance, sigma**2, 1e-15)
    zeros, ones = column(0.0), column(1.0)
    assert process.diffuse(ones, t, zeros).item() == alpha
    assert process.diffuse(zeros, t, ones).item() == sigma


@every_process
@given(times=ordered_times(2))
def test_posterior_obeys_bayes(process, times):
    s, t = times
    scales_s = process.scales(process.log_snr(s))
    _, slope, added = affine(lambda x: process.transition(x, s, t))
    # Condition N(x_s; alpha_s x_0, sigma_s^2) on x_t = slope x_s + noise.
    prior_variance = scales_s.sigma**2
    evidence = slope**2 * prior_variance + added
    gain = slope * prior_variance / evidence
    on_x_0 = scales_s.alpha * added / evidence
    zero, one = column(0.0), column(1.0)
    close(process.posterior(zero, one, t, s).mean, gain)
    close(process.posterior(one, zero, t, s).mean, on_x_0)
    close(process.posterior(one, one, t, s).variance, prior_variance * added / evidence)


@every_process
@given(times=ordered_times(2))
def test_posterior_averages_back_to_the_marginal(process, times):
    s, t = times
    (alpha_s, sigma_s), (alpha_t, sigma_t) = (
        process.scales(process.log_snr(time)) for time in (s, t)
    )
    zero, one = column(0.0), column(1.0)
    on_x_t = process.posterior(zero, one, t, s).mean.item()
    on_x_0, variance = process.posterior(one, zero, t, s)
    close(on_x_0.item() + on_x_t * alpha_t, alpha_s)
    close(on_x_t**2 * sigma_t**2 + float(variance), sigma_s**2)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_neighbouring_posteriors_are_the_textbook_ones(schedule):
    process = VariancePreserving(schedule=schedule)
    zero, one, steps = column(0.0), column(1.0), schedule.steps
    worst = 0.0
    with localcontext() as context:
        context.prec = 40
        signal = Decimal(1)
        for k, beta in enumerate(map(Decimal, schedule.betas.tolist()), start=1):
            before, signal = signal, signal * (1 - beta)
            # Ho et al. (2020), eq. 7, as it is printed.
            on_x_0 = before.sqrt() * beta / (1 - signal)
            on_x_t = (1 - beta).sqrt() * (1 - before) / (1 - signal)
            variance = (1 - before) / (1 - signal) * beta
            at_x_0 = process.posterior(one, zero, k / steps, (k - 1) / steps)
            at_x_t = process.posterior(zero, one, k / steps, (k - 1) / steps)
            for ours, textbook in (
                (at_x_0.mean, on_x_0),
                (at_x_t.mean, on_x_t),
                (at_x_0.variance, variance),
            ):
                if textbook == 0:
                    assert float(ours) == 0.0
                else:
                    worst = max(worst, abs(float(ours) / float(textbook) - 1))
    # Log-SNRs carry a rounding of 1e-15 and differ by 0.01 at the least: 1e-13. Met: 1.24e-13.
    assert worst < 2e-13


@every_process
@pytest.mark.parametrize("t", [1e-3, 0.5, 1.0])
def test_posterior_at_clean_data_is_the_data(process, t):
    x_0, x_t = column(0.3, -2.0), column(5.0, 7.0)
    mean, variance = process.posterior(x_0, x_t, t, 0.0)
    assert torch.equal(mean, x_0)
    assert float(variance) == 0.0


def test_known_posterior_variance_before_the_last_step():
    process = VariancePreserving(schedule=Linear())
    one = column(1.0)
    # Four digits are known.
    close(process.posterior(one, one, 2 / 1000, 1 / 1000).variance, 5.453e-5, 1e-4)


def test_known_prior_term():
    process = VariancePreserving(schedule=Linear())
    alpha, sigma = (c.item() for c in process.scales(process.log_snr(1.0)))
    # KL(N(alpha x_0, sigma^2) || N(0, 1)) at x_0^2 = 1, in bits; four digits are known.
    nats = 0.5 * (alpha**2 + sigma**2 - 1 - math.log(sigma**2))
    close(nats / math.log(2), 2.911e-5, 2e-4)


@every_process
@given(times=ordered_times(2))
def test_one_time_a_sample_equals_one_for_all(process, times):
    s, t = times
    x_0, x_t = column(0.5, -1.0), column(1.5, 2.0)
    per_sample = [torch.tensor([time, time], dtype=torch.float64) for time in (t, s)]
    single = process.posterior(x_0, x_t, t, s)
    several = process.posterior(x_0, x_t, *per_sample)
    # The sum may be contracted differently in the two kernels.
    assert torch.allclose(single.mean, several.mean, rtol=1e-14, atol=1e-14)
    assert torch.allclose(single.variance, several.variance.flatten(), rtol=1e-14, atol=0)
    mixed = process.diffuse(x_0, torch.tensor([s, t], dtype=torch.float64), x_t)
    for row, time in enumerate((s, t)):
        alone = process.diffuse(x_0[row : row + 1], time, x_t[row : row + 1])
        assert torch.allclose(mixed[row], alone[0], rtol=1e-14, atol=1e-14)


@every_process
@pytest.mark.parametrize("t", [0.001, 0.3, 1.0])
def test_empirical_moments_of_diffusion(process, t):
    count, x_0 = 20_000, 0.7
    noise = SampleNoise(seed=5, indices=[0], dtype=torch.float64)
    epsilon = process.draw(torch.empty(1, count), noise).T
    x_t = process.diffuse(torch.full((count, 1), x_0, dtype=torch.float64), t, epsilon)
    alpha, sigma = (c.item() for c in process.scales(process.log_snr(t)))
    # Five standard errors each: a false alarm once in 1.7 million.
    assert abs(x_t.mean().item() - alpha * x_0) < 5 * sigma / math.sqrt(count)
    assert abs(x_t.var().item() / sigma**2 - 1) < 5 * math.sqrt(2 / count)


def test_the_prior_is_standard_normal_and_from_the_noise_given():
    process = VariancePreserving(schedule=Linear())
    x = process.prior((2, 3), SampleNoise(seed=1, indices=[4, 5]))
    assert torch.equal(x, SampleNoise(seed=1, indices=[4, 5]).normal((2, 3)))


@every_process
@given(times=ordered_times(2).filter(lambda pair: pair[0] > 0))
def test_log_variance_lies_between_the_posterior_and_the_largest(process, times):
    s, t = times
    x_t = column(1.0, 1.0)
    scales_s, scales_t = (process.scales(process.log_snr(time)) for time in (s, t))
    posterior = process.posterior(x_t, x_t, t, s).variance
    added = process.transition(x_t, s, t).variance
    largest = added * (scales_s.alpha**2 + scales_s.sigma**2)
    largest = largest / (scales_t.alpha**2 + scales_t.sigma**2)
    plain = process.interpret(x_t, x_t, t)

    def variance(fraction):
        return process.log_variance(plain.with_variance_fraction(fraction), t, s).exp()

    close(process.log_variance(plain, t, s).exp(), posterior)
    close(variance(0.0), posterior)
    close(variance(1.0), largest)
    close(variance(0.5), (posterior * largest).sqrt())
    each = variance(torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    close(each[0], posterior)
    close(each[1], largest)
    assert largest > posterior


def test_largest_variance_of_neighbours_is_beta():
    schedule = Linear()
    process = VariancePreserving(schedule=schedule)
    x = column(1.0)
    for k in (2, 500, 1000):
        large = process.interpret(x, x, k / 1000).with_variance_fraction(1.0)
        variance = process.log_variance(large, k / 1000, (k - 1) / 1000).exp()
        close(variance, schedule.betas[k - 1], 1e-12)


def test_an_output_without_a_target_is_epsilon():
    process = VariancePreserving(schedule=Linear())
    x_0, epsilon = column(0.2, -0.4), column(1.0, 2.0)
    x_t = process.diffuse(x_0, 0.5, epsilon)
    plain = process.interpret(epsilon, x_t, 0.5)
    assert torch.equal(plain.epsilon, epsilon)
    assert torch.allclose(plain.x_0, x_0, rtol=1e-14, atol=1e-14)
    one = torch.ones((), dtype=torch.float64)
    told = process.interpret(x_0, x_t, 0.5, Target(one, 0 * one))
    assert torch.equal(told.x_0, x_0)


@every_process
def test_reverse_is_the_posterior_mean_and_the_variance_asked_for(process):
    x_t, x_0 = column(1.0, 1.0), column(0.3, 0.3)
    prediction = _knows(process, x_0, x_t, 0.6).with_variance_fraction(0.25)
    noise = SampleNoise(seed=3, indices=[0, 1], dtype=torch.float64)
    drawn = process.reverse(prediction, x_t, 0.6, 0.4, noise)
    epsilon = SampleNoise(seed=3, indices=[0, 1], dtype=torch.float64).normal((2, 1))
    mean = process.posterior(x_0, x_t, 0.6, 0.4).mean
    deviation = torch.exp(0.5 * process.log_variance(prediction, 0.6, 0.4))
    assert torch.allclose(drawn, mean + deviation * epsilon, rtol=1e-14, atol=1e-14)


@every_process
def test_the_last_reverse_step_is_the_predicted_data(process):
    x_t, x_0 = column(1.0, -1.0), column(0.3, 0.6)
    prediction = _knows(process, x_0, x_t, 0.1)
    assert torch.equal(process.reverse(prediction, x_t, 0.1, 0.0, noise=None), x_0)


def _knows(process, x_0, x_t, t):
    scales = process.scales(process.log_snr(t))
    one = torch.ones((), dtype=torch.float64)
    return GaussianPrediction(x_0, x_t, Target(one, 0 * one), scales)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_keep_the_dtype_of_the_sample(dtype):
    process = VariancePreserving(schedule=Linear())
    x = torch.ones(2, 3, dtype=dtype)
    for t in (0.5, torch.tensor([0.5, 0.25], dtype=torch.float64)):
        assert process.diffuse(x, t, x).dtype == dtype
        assert process.interpret(x, x, t).x_0.dtype == dtype
    assert process.posterior(x, x, 0.5, 0.25).mean.dtype == dtype


TIMES = (1.0, 0.75, 0.3, 0.001, 0.0)


@pytest.mark.parametrize("process", [VariancePreserving, VarianceExploding, RectifiedFlow])
def test_levels_in_one_pass_are_those_one_by_one(process):
    """Kernels for vectors and for single numbers differ by rounding."""
    made = process(schedule=Linear())
    for level, t in zip(made.levels(TIMES), TIMES, strict=True):
        assert level == t
        alone = made.level(t)
        for name in ("log_snr", "alpha", "sigma"):
            assert getattr(level, name) == pytest.approx(getattr(alone, name), rel=1e-15)


def test_a_level_is_of_the_process_that_made_it():
    one, other = VariancePreserving(schedule=Linear()), VarianceExploding(schedule=Linear())
    level = one.level(0.5)
    assert one.level(level) is level
    assert one.levels([level])[0] is level
    assert other.level(level).sigma == other.level(0.5).sigma != level.sigma
    assert type(copy.deepcopy(level)) is float


@pytest.mark.parametrize("process", [VariancePreserving, VarianceExploding, RectifiedFlow])
def test_a_reverse_step_of_numbers_is_that_of_tensors(process):
    """Coefficients of host times are numbers; those of one time a sample are tensors."""
    made = process(schedule=Linear())
    x_0, x_t = column(0.3, -0.2), column(1.0, -2.0)
    for t, s in ((0.9, 0.4), (0.002, 0.001), (0.5, 0.0)):
        numbers = made.posterior(x_0, x_t, t, s)
        ends = (torch.full((2,), time, dtype=torch.float64) for time in (t, s))
        tensors = made.posterior(x_0, x_t, *ends)
        assert torch.allclose(numbers.mean, tensors.mean, rtol=1e-14, atol=0)
        assert torch.allclose(
            numbers.variance.expand_as(tensors.variance), tensors.variance, rtol=1e-13, atol=0
        )


ASKED = {
    "diffuse": lambda p, x, t: p.diffuse(x, t, x),
    "transition": lambda p, x, t: p.transition(x, 0.5 * t, t),
    "posterior": lambda p, x, t: p.posterior(x, x, t, 0.0),
    "interpret": lambda p, x, t: p.interpret(x, x, t).x_0,
    "denoiser": lambda p, x, t: GaussianDenoiser(lambda x, *_: x, Epsilon(), p)(x, t).x_0,
    "any denoiser": lambda p, x, t: ModelDenoiser(lambda x, *_: x, p)(x, t).x_0,
}


# More than samples, fewer, others along the second axis, more axes than there are.
@pytest.mark.wrong_shapes
@pytest.mark.parametrize("shape", [(5,), (3,), (4, 3), (4, 6), (4, 1, 6, 6, 1)])
@pytest.mark.parametrize("name", ASKED)
def test_times_of_another_shape_are_refused(name, shape):
    process, x = VariancePreserving(schedule=Linear()), torch.zeros(4, 1, 6, 6)
    words = re.escape(f"times of the shape {list(shape)} do not go with samples of the shape [4, 1")
    with pytest.raises(ComponentError, match=words):
        ASKED[name](process, x, torch.full(shape, 0.5, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(), (4,), (4, 1), (4, 1, 6)])
@pytest.mark.parametrize("name", ASKED)
def test_a_time_is_one_number_or_one_a_sample(name, shape):
    process, x = VariancePreserving(schedule=Linear()), torch.ones(4, 1, 6, 6)
    found = ASKED[name](process, x, torch.full(shape, 0.5, dtype=torch.float64))
    found = found if isinstance(found, torch.Tensor) else found.mean
    assert found.shape == x.shape


@pytest.mark.parametrize("name", ASKED)
def test_a_time_for_each_token_is_that_tokens_time(name):
    """Tokens are independent given the network, so each may be a sample of its own."""
    process, x = VariancePreserving(schedule=Linear()), torch.randn(4, 3, 2)
    t = 0.1 + 0.8 * torch.rand(4, 3, dtype=torch.float64)
    together, apart = ASKED[name](process, x, t), ASKED[name](process, x.flatten(0, 1), t.flatten())
    for one, other in zip(
        [together] if isinstance(together, torch.Tensor) else together,
        [apart] if isinstance(apart, torch.Tensor) else apart,
        strict=True,
    ):
        torch.testing.assert_close(one.broadcast_to(x.shape).flatten(0, 1), other.expand(12, 2))
