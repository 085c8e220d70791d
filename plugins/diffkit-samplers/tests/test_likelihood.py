"""Log-likelihoods, against densities that are known."""

from __future__ import annotations

import math

import pytest
import torch

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.clipping import ClippedDenoiser
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.noise import SampleNoise
from diffkit.errors import ComponentError, DiffkitError
from diffkit.testing import ExactGaussian, ExactMixture
from diffkit_samplers.likelihood import log_likelihood

from .samplers_problems import CURVES, ContinuousCosine, LogLinear, marginal

X = torch.tensor([[-1.3, 0.2], [0.4, 0.0], [2.0, -1.0]], dtype=torch.float64)
TOLERANCES = {"rtol": 1e-8, "atol": 1e-8}
NOISY = LogLinear(first=8.0, last=-16.0)


def noise(count=3, seed=0):
    return SampleNoise(seed=seed, indices=range(count), dtype=torch.float64)


def normal(x, mean, deviation):
    return (-0.5 * ((x - mean) / deviation).square() - torch.log(deviation)).sum(
        -1
    ) - 0.5 * math.log(2 * math.pi) * x.shape[-1]


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
@pytest.mark.parametrize(("mean", "variance"), [(0.7, 0.25), (0.0, 2.0), (-1.0, 0.01)])
def test_gaussian_data(curve, trace, mean, variance):
    # A prior that is not the data's marginal at t = 1: its image under the flow is known too.
    process = curve(schedule=LogLinear())
    (mean_1, std_1), (mean_0, std_0) = (
        marginal(process, t, mean, variance) for t in (1.0, LogLinear.t_min)
    )
    alpha, _ = process.scales(process.log_snr(LogLinear.t_min))
    _, sigma_1 = process.scales(process.log_snr(1.0))
    at_1 = mean_1 + std_1 / std_0 * (alpha * X - mean_0)
    prior = torch.ones_like(sigma_1) if curve is VariancePreserving else sigma_1
    known = normal(at_1, 0.0, prior) + 2 * torch.log(alpha * std_1 / std_0)
    # The Jacobian is a multiple of the identity, for which random signs are exact.
    found = log_likelihood(
        ExactGaussian(process, mean, variance), X, trace=trace, noise=noise(), **TOLERANCES
    )
    # The errors of some hundred steps; up to 300 nats are summed.
    assert torch.allclose(found, known, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("schedule", [NOISY, ContinuousCosine()])
def test_a_mixture(schedule):
    process = VariancePreserving(schedule=schedule)
    means, variances = [[-1.0, 0.0], [1.0, 0.5]], [0.1, 0.2]
    least = torch.exp(-schedule.log_snr(schedule.t_min))
    known = torch.logsumexp(
        torch.stack(
            [
                math.log(0.5) + normal(X, torch.tensor(mean).double(), (v + least).sqrt().expand(2))
                for mean, v in zip(means, variances, strict=True)
            ]
        ),
        0,
    )
    found = log_likelihood(ExactMixture(process, means, variances), X, trace="exact", **TOLERANCES)
    # With log-SNR -16 at t = 1 the prior is off the marginal by 3e-4 of its deviation.
    assert torch.allclose(found, known, rtol=0, atol=2e-3)


def test_the_estimate_is_unbiased():
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    denoiser = ExactGaussian(VariancePreserving(schedule=NOISY), 0.0, covariance)
    count = 400
    x = X[:1].expand(count, 2)
    options = {"rtol": 1e-5, "atol": 1e-5}
    exact = log_likelihood(denoiser, x[:1], trace="exact", **options)
    one = log_likelihood(denoiser, x, noise=noise(count), **options)
    four = log_likelihood(denoiser, x, noise=noise(count), probes=4, **options)
    # Four standard errors: once in 16,000 draws.
    assert abs(one.mean() - exact) < 4 * one.std() / count**0.5
    # The variance falls with the number of probes; of 400 it is known to 7 %.
    assert four.var().item() == pytest.approx(one.var().item() / 4, rel=0.4)
    assert one.std() > 0.1


def test_it_integrates_to_one():
    process = VariancePreserving(schedule=LogLinear())
    x = torch.linspace(-8, 8, 401, dtype=torch.float64)[:, None]
    found = log_likelihood(ExactMixture(process, [[-1.0], [1.0]], 0.1), x, trace="exact")
    # The trapezoid is exact for smooth densities; the solver's tolerance is 1e-5.
    assert torch.trapezoid(found.exp(), x[:, 0]).item() == pytest.approx(1.0, abs=1e-3)


def test_batches_dtypes_and_gradients():
    denoiser = ExactMixture(VariancePreserving(schedule=LogLinear()), [[-1.0, 0.0]], 0.1)
    kept = X.clone()
    with torch.no_grad():
        together = log_likelihood(denoiser, X, noise=noise())
    assert torch.equal(X, kept)
    assert not together.requires_grad
    alone = log_likelihood(denoiser, X[:1], noise=noise(1))
    # The kernels may sum in another order.
    assert torch.allclose(alone, together[:1], rtol=0, atol=1e-10)
    single = log_likelihood(denoiser, X.float(), noise=noise())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), together, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs noise"),
        ({"trace": "all"}, "hutchinson or exact"),
        ({"trace": "exact", "probes": 0}, "at least 1"),
        ({"trace": "exact", "rtol": 0.0}, "positive"),
        ({"trace": "exact", "probes": 4}, "probes = 4 would do nothing with trace='exact'"),
    ],
)
def test_mistakes(options, message):
    denoiser = ExactGaussian(VariancePreserving(schedule=LogLinear()))
    with pytest.raises(ComponentError, match=message):
        log_likelihood(denoiser, X, **options)


def test_data_of_integers():
    denoiser = ExactGaussian(VariancePreserving(schedule=LogLinear()))
    for x_0 in (X.round().long(), X.to(torch.uint8), X > 0):
        with pytest.raises(ComponentError, match=r"dtype torch\.\w+, .* dequantise it"):
            log_likelihood(denoiser, x_0, trace="exact")


def test_inference_mode():
    denoiser = ExactGaussian(VariancePreserving(schedule=LogLinear()))
    with torch.inference_mode(), pytest.raises(ComponentError, match=r"torch\.no_grad\(\)"):
        log_likelihood(denoiser, X, trace="exact")


def test_bits_of_levels_are_those_of_the_density_and_the_width_of_a_level():
    """As its page says: log2(127.5) more, for 256 levels in [-1, 1]; and so the metric's."""
    deviation, half = 0.3, 1 / 255
    generator = torch.Generator().manual_seed(0)
    x = 0.1 + deviation * torch.randn(400, 4, generator=generator, dtype=torch.float64)
    x = (x.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    law = torch.distributions.Normal(0.1, deviation)
    entropy = -(law.cdf(x + half) - law.cdf(x - half)).log2().mean()
    even = x + half * (2 * torch.rand(x.shape, generator=generator, dtype=torch.float64) - 1)
    exact = ExactGaussian(VariancePreserving(schedule=Linear()), 0.1, deviation**2)
    clipped = ClippedDenoiser(exact, (-0.01, 0.01))
    found = log_likelihood(clipped, even, trace="exact")
    # 1600 numbers of deviation 0.7 bits; Linear's noise of 1e-4 widens the density by 1e-3.
    bits = -found.mean() / (4 * math.log(2)) + math.log2(127.5)
    assert float(bits) == pytest.approx(float(entropy), abs=0.02)
    assert torch.equal(found, log_likelihood(exact, even, trace="exact"))


def test_a_network_of_a_grid_is_refused():
    process = VariancePreserving(schedule=Linear())
    denoiser = GaussianDenoiser(lambda x, c_noise, condition: x, Epsilon(), process, grid=1000)
    with pytest.raises(ComponentError, match="only at multiples of 1/1000"):
        log_likelihood(denoiser, X, trace="exact")


def test_levels_below_those_that_were_trained_are_refused():
    trained = VariancePreserving(schedule=LogLinear(first=4.0, last=-8.0))
    wider = VariancePreserving(schedule=LogLinear(first=8.0, last=-8.0))
    denoiser = GaussianDenoiser(lambda x, c_noise, condition: x, Epsilon(), trained, wider)
    with pytest.raises(ComponentError, match="never trained at"):
        log_likelihood(denoiser, X, trace="exact")


@pytest.mark.parametrize("wrong", ["", None, "x", True, object(), []])
def test_arguments_of_no_use_are_named(wrong):
    exact = ExactGaussian(VariancePreserving(schedule=LogLinear()), 0.0, 1.0)
    right = {"trace": "exact", "probes": 1, "rtol": 1e-3, "atol": 1e-3, "noise": None}
    for name in ("denoiser", "x_0", *right):
        if name == "noise" and wrong is None:
            continue
        given = {"denoiser": exact, "x_0": torch.zeros(1, 2), **right, name: wrong}
        with pytest.raises(DiffkitError, match=name):
            log_likelihood(given.pop("denoiser"), given.pop("x_0"), **given)
