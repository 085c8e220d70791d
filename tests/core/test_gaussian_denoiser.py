"""Denoisers: the exact ones against brute force, and networks seen through two processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.core import gaussian_denoiser as denoiser_module
from diffkit.core.denoiser import ModelDenoiser, per_sample
from diffkit.core.gaussian_denoiser import GaussianDenoiser, scaled
from diffkit.core.model import EpsilonModel
from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import Target
from diffkit.errors import ComponentError
from diffkit.testing import ExactGaussian, ExactMixture, OracleModel

# Machines differ in speed; a law does not.
settings.register_profile("laws", deadline=None, max_examples=50)
settings.load_profile("laws")


class ScaledInput(Parameterization):
    """A toy with an input scale that is not 1: unit variance for data of deviation 1/2."""

    def target(self, scales):
        one = torch.ones_like(scales.alpha)
        return Target(-one, one)

    def c_in(self, scales):
        return 1 / (scales.sigma.square() + scales.alpha.square() / 4).sqrt()


class Spy(EpsilonModel):
    """Remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x, c_noise, condition):
        self.asked.append((x, c_noise, condition))
        return torch.zeros_like(x)


LINEAR, COSINE = Linear(), Cosine()
CURVES = [VariancePreserving, VarianceExploding, RectifiedFlow]
every_curve = pytest.mark.parametrize("curve", CURVES)
NOISE_LEVELS = [1e-6, 1e-3, 0.1, 0.5, 0.9, 1.0]


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


# Exact denoisers.


@every_curve
@pytest.mark.parametrize("t", NOISE_LEVELS)
def test_exact_gaussian_is_linear_regression(curve, t):
    process = curve(schedule=LINEAR)
    root = np.array([[1.0, 0.0, 0.0], [0.5, 0.3, 0.0], [-2.0, 0.1, 0.7]])
    mean, covariance = np.array([1.0, -2.0, 0.5]), root @ root.T
    alpha, sigma = (c.item() for c in process.scales(process.log_snr(t)))
    x_t = np.array([[0.3, 1.0, -1.0], [2.0, -3.0, 0.0]])
    noisy = alpha**2 * covariance + sigma**2 * np.eye(3)
    gain = alpha * np.linalg.solve(noisy, covariance).T
    expected = mean + (x_t - alpha * mean) @ gain.T
    exact = ExactGaussian(process, mean.tolist(), covariance.tolist())
    # The solve loses the condition number of the covariance, about 3000.
    assert np.allclose(exact(rows(*x_t.tolist()), t).x_0.numpy(), expected, rtol=1e-11, atol=1e-11)


@every_curve
@pytest.mark.parametrize("t", NOISE_LEVELS)
def test_exact_mixture_is_bayes_by_quadrature(curve, t):
    process = curve(schedule=LINEAR)
    means, variances, weights = [-1.0, 0.5, 2.0], [0.04, 0.25, 1.0], [1.0, 2.0, 3.0]
    alpha, sigma = (c.item() for c in process.scales(process.log_snr(t)))
    exact = ExactMixture(process, [[m] for m in means], variances, weights)
    for x_t in (-1.5 * alpha, 0.3 * alpha + 0.1 * sigma, 2 * alpha + sigma):

        def joint(x_0, seen=x_t):
            data = sum(
                w * norm.pdf(x_0, m, v**0.5)
                for m, v, w in zip(means, variances, weights, strict=True)
            )
            return data * np.exp(-0.5 * ((seen - alpha * x_0) / sigma) ** 2)

        near = x_t / alpha
        points = sorted({*means, *(near + d * sigma / alpha for d in (-3, 0, 3)), 0.0})
        points = [p for p in points if -9 < p < 11]
        bounds = (max(-9.0, near - 12 * sigma / alpha), min(11.0, near + 12 * sigma / alpha))
        points = [p for p in points if bounds[0] < p < bounds[1]]
        options = {"points": points, "epsabs": 0, "epsrel": 1e-12, "limit": 500}
        total = quad(joint, *bounds, **options)[0]
        expected = quad(lambda x: x * joint(x), *bounds, **options)[0] / total
        # Quadrature is asked for 1e-12 and leaves out tails beyond 9 deviations.
        assert exact(rows([x_t]), t).x_0.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@every_curve
@given(t=st.just(0.0) | st.floats(1e-9, 1.0), x=st.floats(-5, 5), v=st.floats(0.01, 4))
def test_a_mixture_of_one_or_of_equals_is_a_gaussian(curve, t, x, v):
    process = curve(schedule=LINEAR)
    x_t, mean = rows([x, -x]), [0.5, -1.5]
    expected = ExactGaussian(process, mean, v)(x_t, t).output
    matrix = ExactGaussian(process, mean, [[v, 0.0], [0.0, v]])(x_t, t).output
    one = ExactMixture(process, [mean], v)(x_t, t).output
    three = ExactMixture(process, [mean] * 3, [v] * 3, [1.0, 5.0, 2.0])(x_t, t).output
    for other in (matrix, one, three):
        # Sums of terms up to 5 / 0.1, the size of the gain at the smallest variance.
        assert torch.allclose(other, expected, rtol=1e-14, atol=1e-13)


@every_curve
def test_exact_denoisers_at_the_ends(curve):
    process = curve(schedule=COSINE)
    x = rows([0.3, -0.7])
    for exact in (
        ExactGaussian(process, [1.0, 2.0], [[2.0, 0.5], [0.5, 1.0]]),
        ExactMixture(process, [[1.0, 2.0], [0.0, 1.0]], [0.5, 2.0]),
        ExactMixture(process, [[1.0, 2.0], [0.0, 1.0]], 0.0),
    ):
        # Clean data are their own posterior mean.
        assert torch.allclose(exact(x, 0.0).output, x, rtol=1e-14, atol=1e-14)
        # abar_T = 2.4e-9: at the noisy end the mean of the data is all that is known, to
        # alpha/sigma = 5e-5 times what is seen in units of sigma, here less than 3.
        sigma = process.scales(process.log_snr(1.0)).sigma
        means = exact(sigma * x, 1.0).x_0
        expected = rows([1.0, 2.0]) if isinstance(exact, ExactGaussian) else rows([0.5, 1.5])
        assert torch.allclose(means, expected, rtol=0, atol=3e-4)


def test_exact_denoisers_without_variance():
    process = VariancePreserving(schedule=LINEAR)
    singular = ExactGaussian(process, [1.0, 2.0], [[1.0, 1.0], [1.0, 1.0]])
    for t in (0.0, 1e-9, 0.5, 1.0):
        x_0 = singular(rows([4.0, -3.0]), t).output
        if t > 0:
            # The data differ from their mean along (1, 1) only.
            assert (x_0[0, 1] - x_0[0, 0]).item() == pytest.approx(1.0, rel=1e-14)
        assert x_0.isfinite().all()
    assert ExactGaussian(process, 0.7, 0.0)(rows([5.0]), 0.0).output.item() == 0.7
    points = ExactMixture(process, [[1.0], [-1.0]], 0.0)
    assert points(rows([0.9]), 0.001).x_0.item() == pytest.approx(1.0, rel=1e-12)
    # Between two points the posterior mean is tanh(alpha x_t / sigma^2).
    alpha, sigma = process.scales(process.log_snr(0.4))
    expected = torch.tanh(alpha * 0.3 / sigma**2).item()
    assert points(rows([0.3]), 0.4).x_0.item() == pytest.approx(expected, rel=1e-13)


@every_curve
@pytest.mark.parametrize("t", NOISE_LEVELS)
def test_exact_score_is_that_of_the_marginal(curve, t):
    process = curve(schedule=LINEAR)
    alpha, sigma = process.scales(process.log_snr(t))
    x_t = rows([0.4], [-1.1]) * (alpha**2 + sigma**2).sqrt()
    prediction = ExactGaussian(process, 0.3, 0.25)(x_t, t)
    expected = -(x_t - alpha * 0.3) / (alpha**2 / 4 + sigma**2)
    # Tweedie's formula divides a rounding error in x_0 by sigma^2.
    assert torch.allclose(
        prediction.score, expected, rtol=1e-12, atol=float(1e-15 * alpha / sigma**2)
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda process: ExactGaussian(process, 0.2, 0.5),
        lambda process: ExactGaussian(process, 0.2, torch.diag(rows(1, 2, 3, 4)).tolist()),
        lambda process: ExactMixture(process, [[0.0] * 4, [1.0] * 4], [0.5, 0.0]),
    ],
)
def test_exact_denoisers_take_one_time_a_sample_and_any_shape(make):
    exact = make(VariancePreserving(schedule=LINEAR))
    times = [0.0, 0.2, 0.7, 1.0]
    x = torch.linspace(-1, 2, 16, dtype=torch.float64).reshape(4, 1, 2, 2)
    together = exact(x, rows(*times)).output
    assert together.shape == x.shape
    for row, t in enumerate(times):
        alone = exact(x[row : row + 1], t).output[0]
        assert torch.allclose(together[row], alone, rtol=1e-14, atol=1e-14)
    assert exact(x.float(), 0.5).x_0.dtype == torch.float32


def test_exact_denoisers_refuse_what_does_not_fit():
    process = VariancePreserving(schedule=LINEAR)
    for covariance in ([[1.0, 2.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, -1.0]], -1.0):
        with pytest.raises(ComponentError, match="symmetric and not negative"):
            ExactGaussian(process, 0.0, covariance)
    with pytest.raises(ComponentError, match="square matrix"):
        ExactGaussian(process, 0.0, [1.0, 2.0])
    with pytest.raises(ComponentError, match=r"means must be \[k, d\]"):
        ExactMixture(process, [1.0], 1.0)
    with pytest.raises(ComponentError, match="weights must be one number or 2"):
        ExactMixture(process, [[1.0], [2.0]], 1.0, [1.0])
    with pytest.raises(ComponentError, match="at least 0"):
        ExactMixture(process, [[1.0]], -1.0)
    with pytest.raises(ComponentError, match="has 3 numbers"):
        ExactMixture(process, [[1.0]], 1.0)(torch.zeros(1, 3), 0.5)


# A network under its own process.


@pytest.mark.parametrize("parameterization", [Epsilon(), X0(), Velocity(), ScaledInput()])
@every_curve
def test_a_network_under_its_own_process_gives_the_exact_answer(curve, parameterization):
    process = curve(schedule=LINEAR)
    exact = ExactMixture(process, [[-1.0, 0.0], [1.0, 0.5]], [0.1, 0.3])
    model = OracleModel(denoiser=exact, parameterization=parameterization)
    denoiser = GaussianDenoiser(model, parameterization, process)
    assert denoiser.process is process
    for t in (0.001, 0.25, 0.5, 1.0):
        alpha, sigma = process.scales(process.log_snr(t))
        x_t = alpha * rows([0.3, -0.5]) + sigma * rows([1.0, 0.2])
        answer, expected = denoiser(x_t, t), exact(x_t, t)
        # Grid times are exact in float32; x_0 is recovered with 1/alpha, which reaches 160.
        assert torch.allclose(answer.x_0, expected.x_0, rtol=0, atol=1e-12)
        assert torch.allclose(answer.epsilon, expected.epsilon, rtol=0, atol=1e-12)


def test_networks_are_told_the_index_in_float32():
    process, spy = VariancePreserving(schedule=LINEAR), Spy()
    denoiser = GaussianDenoiser(spy, Epsilon(), process, condition={"label": torch.ones(1)})
    x = torch.ones(1, 2)
    for k in range(1, 1001):
        denoiser(x, k / 1000)
        denoiser(x, torch.tensor([1 - (1000 - k) / 1000], dtype=torch.float64))
        assert spy.asked[-2][0] is x
        for seen, c_noise, condition in spy.asked[-2:]:
            assert c_noise.dtype == torch.float32
            assert c_noise.tolist() == [k]
            assert torch.equal(seen, x)
            assert condition["label"].item() == 1.0


def test_times_differ_between_samples():
    process, spy = VariancePreserving(schedule=LINEAR), Spy()
    times = rows(0.25, 0.5, 1.0)
    prediction = GaussianDenoiser(spy, Velocity(), process)(torch.ones(3, 2), times)
    assert spy.asked[0][1].tolist() == [250.0, 500.0, 1000.0]
    for row, t in enumerate(times.tolist()):
        alone = GaussianDenoiser(spy, Velocity(), process)(torch.ones(1, 2), t)
        assert torch.allclose(prediction.x_0[row], alone.x_0[0], rtol=1e-6)


def test_a_plain_model_denoiser_asks_the_process_for_the_meaning():
    process, spy = VariancePreserving(schedule=LINEAR), Spy()
    denoiser = ModelDenoiser(spy, process, data_range=(-1.0, 1.0))
    prediction = denoiser(torch.ones(2, 3), 0.5)
    assert torch.equal(prediction.epsilon, torch.zeros(2, 3))
    assert spy.asked[0][1].tolist() == [500.0, 500.0]
    assert denoiser.data_range == (-1.0, 1.0)
    assert denoiser.process is process
    assert denoiser.start({}) is denoiser


def test_the_declared_range_is_kept():
    process = VariancePreserving(schedule=LINEAR)
    assert GaussianDenoiser(Spy(), Epsilon(), process).data_range is None
    ranged = GaussianDenoiser(Spy(), Epsilon(), process, data_range=(0.0, 2.0))
    assert ranged.data_range == (0.0, 2.0)


# A network under another process.


@pytest.mark.parametrize("parameterization", [Epsilon(), X0(), Velocity(), ScaledInput()])
@pytest.mark.parametrize("trained", CURVES)
@pytest.mark.parametrize("sampling", CURVES)
@pytest.mark.parametrize("exactly", [True, False], ids=["float64", "float32"])
def test_trained_under_cosine_and_sampled_under_linear(
    trained, sampling, parameterization, exactly, monkeypatch
):
    trained, sampling = trained(schedule=COSINE), sampling(schedule=LINEAR)
    means, variances = [[-1.0, 0.0], [1.0, 0.5]], [0.1, 0.3]
    model = OracleModel(
        denoiser=ExactMixture(trained, means, variances), parameterization=parameterization
    )
    denoiser = GaussianDenoiser(model, parameterization, trained, sampling)
    assert denoiser.process is sampling
    if exactly:
        # Let networks be told c_noise in float64, to see the formulas without its rounding.
        monkeypatch.setattr(
            denoiser_module,
            "per_sample",
            lambda c, x: torch.as_tensor(c, dtype=torch.float64).expand(len(x)),
        )
    times = rows(0.001, 0.003, 0.05, 0.25, 0.5, 0.75, 0.999, 1.0)
    alpha, sigma = (c[:, None] for c in sampling.scales(sampling.log_snr(times)))
    x_t = alpha * rows([0.3, -0.5]) + sigma * rows([1.0, 0.2])
    expected = ExactMixture(sampling, means, variances)(x_t, times)
    # log-SNRs are off by 1e-13 (the inverse of the schedule near t = 1, where its slope is 200
    # and more); by up to 1e-5 with c_noise in float32. So are, relatively, alpha and sigma, and
    # x_0 is recovered from epsilon, or epsilon from x_0, with their ratio.
    off = 1e-11 if exactly else 1e-5
    separate = [denoiser(x_t[i : i + 1], t) for i, t in enumerate(times.tolist())]
    together = denoiser(x_t, times)
    for part, ratio in (("x_0", sigma / alpha), ("epsilon", alpha / sigma)):
        truth, tolerance = getattr(expected, part), 3 * off * (1 + ratio)
        alone = torch.cat([getattr(prediction, part) for prediction in separate])
        assert ((alone - truth).abs() <= tolerance).all()
        assert ((getattr(together, part) - truth).abs() <= tolerance).all()


@pytest.mark.parametrize("sampling", CURVES)
def test_a_float32_trajectory_under_another_process(sampling):
    trained, sampling = VariancePreserving(schedule=COSINE), sampling(schedule=LINEAR)
    model = OracleModel(denoiser=ExactGaussian(trained, 0.3, 0.25), parameterization=Velocity())
    denoiser = GaussianDenoiser(model, Velocity(), trained, sampling)
    for t in (0.001, 0.5, 1.0):
        alpha, sigma = sampling.scales(sampling.log_snr(t))
        x_t = alpha * rows([0.3, -0.5]) + sigma * rows([1.0, 0.2])
        answer = denoiser(x_t.float(), t)
        assert answer.x_0.dtype == torch.float32
        # c_noise in float32, as above, and rounding at 1e-7; a velocity amplifies neither.
        truth = ExactGaussian(sampling, 0.3, 0.25)(x_t, t).x_0
        assert torch.allclose(answer.x_0.double(), truth, rtol=0, atol=2e-5)


def test_without_rescaling_the_swap_would_fail():
    # What the law above would let pass, if its data were too easy: x_t fed as it is.
    trained, sampling = VariancePreserving(schedule=COSINE), VarianceExploding(schedule=LINEAR)
    spy = Spy()
    GaussianDenoiser(spy, Epsilon(), trained, sampling)(torch.full((1, 1), 10.0).double(), 0.5)
    x, c_noise, _ = spy.asked[0]
    log_snr = sampling.log_snr(0.5)
    assert x.item() == pytest.approx(10.0 * torch.sigmoid(log_snr).sqrt().item(), rel=1e-14)
    # The time is float32.
    assert c_noise.item() / 1000 == pytest.approx(COSINE.time_at(log_snr).item(), rel=1e-7)


@every_curve
def test_more_noise_than_was_trained_is_an_error(curve):
    trained, sampling = VariancePreserving(schedule=LINEAR), curve(schedule=COSINE)
    denoiser = GaussianDenoiser(Spy(), Epsilon(), trained, sampling)
    with pytest.raises(ComponentError, match=r"at t = 1 has a noise level .* never trained at"):
        denoiser(torch.ones(1, 1), 1.0)
    with pytest.raises(ComponentError, match="at these times"):
        denoiser(torch.ones(2, 1), rows(0.5, 1.0))
    denoiser(torch.ones(1, 1), 0.5)


@every_curve
def test_less_noise_than_was_trained_is_an_error(curve):
    trained, sampling = VariancePreserving(schedule=LINEAR), curve(schedule=COSINE)
    denoiser = GaussianDenoiser(Spy(), Epsilon(), trained, sampling)
    with pytest.raises(ComponentError, match=r"less noise than the smallest trained time, 0\.001"):
        denoiser(torch.ones(1, 1), 0.001)
    # An equal schedule of another instance is no other noise level, even at its last time.
    same = GaussianDenoiser(Spy(), Epsilon(), trained, curve(schedule=Linear()))
    same(torch.ones(1, 1), 0.001)
    same(torch.ones(1, 1), 1.0)


# Helpers.


def test_coefficients_of_exactly_one_copy_nothing():
    x = torch.ones(2, 3)
    assert scaled(1.0, x) is x
    assert scaled(rows(2.0, 3.0), x).tolist() == [[2.0] * 3, [3.0] * 3]
    assert scaled(rows(2.0, 3.0), x.bfloat16()).dtype == torch.bfloat16


def test_per_sample_fills_the_batch_in_float32():
    assert per_sample(torch.tensor(5.0).double(), torch.ones(3, 1)).tolist() == [5.0] * 3
    assert per_sample(rows(1.0, 2.0), torch.ones(2, 1)).dtype == torch.float32


def test_an_oracle_needs_the_time_from_c_noise():
    class Logarithmic(Epsilon):
        def c_noise(self, t, log_snr):
            return -log_snr / 8

    process = VariancePreserving(schedule=LINEAR)
    model = OracleModel(denoiser=ExactGaussian(process), parameterization=Logarithmic())
    with pytest.raises(ComponentError, match="Logarithmic tells networks something else"):
        model(torch.ones(1, 1), torch.tensor([500.0]), {})
