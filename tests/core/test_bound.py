"""The bound against closed forms, and against sums made in another way."""

from __future__ import annotations

import math

import pytest
import torch

import diffkit
from diffkit.bundled.losses.elbo import Elbo
from diffkit.bundled.losses.hybrid import Hybrid
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.bound import NATS_PER_BIT, Bound
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.loss import Batch, LossContext
from diffkit.core.noise import BatchNoise
from diffkit.core.prediction import GaussianPrediction, Target
from diffkit.core.times import DrawnTimes
from diffkit.functional.coefficients import broadcast_right
from diffkit.functional.likelihood import discretized_gaussian_log_probability

LINEAR = VariancePreserving(schedule=Linear())
ENTROPY = 0.5 * math.log(2.0 * math.pi * math.e)
"""Of N(0, 1), in nats."""


def prediction_of(
    x_0_hat: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor, fraction: float | torch.Tensor
) -> GaussianPrediction:
    scales = LINEAR.scales(LINEAR.log_snr(t))
    one = torch.ones_like(scales.alpha)
    return GaussianPrediction(x_0_hat, x_t, Target(one, torch.zeros_like(one)), scales, fraction)


def test_the_bound_on_a_normal_variable_is_its_entropy() -> None:
    """For N(0, 1) the reverse steps are Gaussian with variance beta_t: nothing is lost."""
    bound = Bound(LINEAR, 1000, None, None)
    generator = torch.Generator().manual_seed(0)
    rows = 400
    total = torch.zeros(rows, dtype=torch.float64)
    x_0 = torch.randn(rows, 50, generator=generator, dtype=torch.float64)
    for k in range(1, 1001):
        t = torch.full((rows,), k / 1000, dtype=torch.float64)
        alpha, sigma = (broadcast_right(c, x_0) for c in LINEAR.scales(LINEAR.log_snr(t)))
        epsilon = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
        x_t = alpha * x_0 + sigma * epsilon
        total += bound.term(x_0, prediction_of(alpha * x_t, x_t, t, 1.0), t)
    total += bound.prior(x_0)
    nats = total * NATS_PER_BIT
    # Five standard errors of the mean: one run in two million is further off.
    assert abs(float(nats.mean()) - ENTROPY) < 5.0 * float(nats.std()) / math.sqrt(rows)
    assert float(nats.std()) / math.sqrt(rows) < 0.01


def test_each_term_is_the_divergence_of_two_normals() -> None:
    bound = Bound(LINEAR, 1000, None, None)
    generator = torch.Generator().manual_seed(0)
    x_0, x_0_hat, x_t, fraction = (
        torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(4)
    )
    fraction = torch.sigmoid(fraction)
    t = torch.tensor([2, 3, 10, 500, 999, 1000], dtype=torch.float64) / 1000
    found = bound.term(x_0, prediction_of(x_0_hat, x_t, t, fraction), t)
    for row in range(6):
        here, s = float(t[row]), float(t[row]) - 1e-3
        true = LINEAR.posterior(x_0[[row]], x_t[[row]], here, s)
        guessed = prediction_of(x_0_hat[[row]], x_t[[row]], t[[row]], fraction[[row]])
        mean = LINEAR.posterior(x_0_hat[[row]], x_t[[row]], here, s).mean
        variance = LINEAR.log_variance(guessed, here, s).exp()
        wanted = torch.distributions.kl_divergence(
            torch.distributions.Normal(true.mean, true.variance.sqrt()),
            torch.distributions.Normal(mean, variance.sqrt()),
        ).mean()
        # The means of neighbours near t = 0 agree in most of their digits.
        assert float(found[row] * NATS_PER_BIT) == pytest.approx(float(wanted), rel=1e-6)


def test_the_prior_term_is_known() -> None:
    """2.911e-5 bits a dimension for x_0^2 = 1 under the linear schedule."""
    x_0 = torch.ones(2, 4, dtype=torch.float64)
    assert Bound(LINEAR, 1000, None, None).prior(x_0).tolist() == pytest.approx(
        [2.911e-5] * 2, rel=2e-4
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_variance", [-30.0, -9.8, -4.0, 0.0, 6.0])
@pytest.mark.parametrize("mean", [-1.3, -0.5, 0.0021, 0.99, 4.0])
def test_the_levels_have_probabilities_that_add_up_to_one(dtype, log_variance, mean) -> None:
    x = torch.linspace(-1.0, 1.0, 256, dtype=dtype).requires_grad_()
    at = torch.full_like(x, mean).requires_grad_()
    spread = torch.full_like(x, log_variance).requires_grad_()
    found = discretized_gaussian_log_probability(x.detach(), at, spread, -1.0, 1.0, 256)
    # Each of the 256 numbers is known to 1e-7 in float32, and its logarithm to 1e-7 of its size.
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    assert float(found.exp().sum()) == pytest.approx(1.0, abs=tolerance)
    assert bool((found <= 0).all())
    found.sum().backward()
    assert bool(at.grad.isfinite().all() and spread.grad.isfinite().all())


def test_a_level_far_out_keeps_its_digits() -> None:
    x = torch.tensor([0.5], dtype=torch.float64)
    log_variance = torch.tensor([2.0 * math.log(0.01)], dtype=torch.float64)
    # 40 deviations away, where a difference of distribution functions is 0 - 0.
    found = discretized_gaussian_log_probability(x, x - 0.4, log_variance, -1.0, 1.0, 256)
    half = 1.0 / 255.0
    edge = torch.tensor([(0.4 - half) / 0.01], dtype=torch.float64)
    wanted = torch.special.log_ndtr(-edge)  # The bin's far edge is negligibly likely.
    assert torch.allclose(found, wanted, rtol=1e-12)
    assert bool(found.isfinite())


def context_of(network, k: torch.Tensor, learned: bool = True, seed: int = 0) -> LossContext:
    rows = len(k)
    return LossContext(
        denoiser=GaussianDenoiser(
            network, Epsilon(), LINEAR, data_range=(-1.0, 1.0), learned_variance=learned
        ),
        process=LINEAR,
        noise=BatchNoise(seed=seed, step=0, rows=range(rows), total=rows, dtype=torch.float64),
        draw_times=lambda count: DrawnTimes(
            k.double() / 1000, torch.ones(rows, dtype=torch.float64)
        ),
        step=0,
    )


class Guess(torch.nn.Module):
    """A network of two numbers, one for the mean and one for the variance."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.variance = torch.nn.Parameter(torch.tensor(0.2, dtype=torch.float64))

    def forward(self, x, c_noise, condition):
        return torch.cat([self.mean * x, self.variance + 0.0 * x], dim=1)


X_0 = (torch.arange(24, dtype=torch.float64).reshape(8, 3) - 12.0) / 127.5
K = torch.tensor([1, 1, 2, 3, 50, 400, 900, 1000])


def test_one_random_term_is_unbiased() -> None:
    """The mean over k of the values is the sum of all terms."""
    network = Guess()
    every = torch.arange(1, 1001)
    x_0 = X_0[:1].expand(1000, 3)
    with torch.no_grad():
        record = Elbo()(Batch(x_0), context_of(network, every))
    whole = record.terms["term"].sum() + record.terms["prior"][0]
    assert float(record.values.mean()) == pytest.approx(float(whole), rel=1e-12)


def test_lambda_is_of_the_whole_bound_in_bits() -> None:
    network, batch = Guess(), Batch(X_0)
    bound = Elbo()(batch, context_of(network, K)).values
    one = Hybrid(bound_weight=0.001)(batch, context_of(network, K))
    two = Hybrid(bound_weight=0.002)(batch, context_of(network, K))
    assert torch.allclose(two.values - one.values, 0.001 * bound, rtol=1e-9)
    assert torch.allclose(one.values - one.terms["simple"], 0.001 * bound, rtol=1e-9)


def test_the_mean_learns_from_the_first_part_and_the_variance_from_the_second() -> None:
    network, batch = Guess(), Batch(X_0)

    def gradients(loss) -> tuple[float, float]:
        network.zero_grad()
        loss(batch, context_of(network, K)).values.sum().backward()
        return float(network.mean.grad), float(network.variance.grad)

    mean, variance = gradients(Hybrid(bound_weight=0.5))
    mean_more, variance_more = gradients(Hybrid(bound_weight=1.0))
    assert mean == pytest.approx(mean_more, rel=1e-12)
    assert variance_more == pytest.approx(2.0 * variance, rel=1e-12)
    assert mean != 0.0
    assert variance != 0.0


def test_what_is_predicted_makes_no_difference() -> None:
    x_t = torch.randn(8, 3, dtype=torch.float64)
    t = K.double() / 1000
    scales = LINEAR.scales(LINEAR.log_snr(t))
    bound = Bound(LINEAR, 1000, 256, (-1.0, 1.0))
    found = []
    for parameterization in (Epsilon(), Velocity()):
        target = parameterization.target(scales)
        a, b = (broadcast_right(c, x_t) for c in target)
        alpha, sigma = (broadcast_right(c, x_t) for c in scales)
        guess = 0.9 * X_0
        output = a * guess + b * (x_t - alpha * guess) / sigma
        found.append(bound.term(X_0, GaussianPrediction(output, x_t, target, scales, 0.3), t))
    # x_0 from epsilon loses the digits that dividing by alpha_T = 0.006 costs.
    assert torch.allclose(*found, rtol=1e-8)


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Cosine(steps=10)])
def test_values_are_finite_to_both_ends(schedule) -> None:
    process = VariancePreserving(schedule=schedule)
    steps = schedule.steps
    bound = Bound(process, steps, 256, (-1.0, 1.0))
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    x_0 = torch.zeros(steps, 2)
    scales = process.scales(process.log_snr(t))
    x_t = torch.randn(steps, 2)
    for fraction in (0.0, 1.0, torch.rand(steps, 2)):
        target = Epsilon().target(scales)
        found = bound.term(x_0, GaussianPrediction(x_t, x_t, target, scales, fraction), t)
        assert bool(found.isfinite().all())
    assert bool(bound.prior(x_0).isfinite().all())


SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1, "learned_variance": True}},
    "loss": "hybrid",
    "sampler": "ddpm",
    "dataset": "digits",
    "training": {"batch_size": 8, "steps": 5},
}


@pytest.mark.parametrize("loss", ["hybrid", "elbo"])
def test_a_pipeline_learns_its_variance_and_samples_at_any_spacing(loss) -> None:
    pipeline = diffkit.build({**SPEC, "loss": loss}, device="cpu").train(progress=False)
    learned = pipeline.sample(3, steps=6)
    small = pipeline.sample(
        3, steps=6, sampler={"id": "ddpm", "config": {"variance": "fixed_small"}}
    )
    assert learned.shape == (3, 1, 8, 8)
    assert bool(learned.isfinite().all())
    assert not torch.equal(learned, small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "simple"}, "the model predicts a variance, which this loss does not train"),
        (
            {"model": {"id": "mlp", "config": {}}},
            "the second part of this loss trains the variance",
        ),
        (
            {"model": "mlp", "loss": {"id": "elbo", "config": {"variance": "learned_range"}}},
            "the model predicts no variance",
        ),
        ({"loss": {"id": "elbo", "config": {"variance": "fixed_small"}}}, "is not trained"),
        ({"loss": {"id": "elbo", "config": {"steps": 7}}}, "the schedule has 20"),
        (
            {
                "model": "mlp",
                "loss": "simple",
                "sampler": {"id": "ddpm", "config": {"variance": "learned_range"}},
            },
            "variance is learned_range, and the model predicts no variance",
        ),
        ({"dataset": None, "data": {"shape": [2]}}, "data with levels need a range"),
        (
            {
                "schedule": "rectified",
                "parameterization": "velocity",
                "loss": {"id": "elbo", "config": {"steps": 4000}},
            },
            "begins at t = 0.00025, below the schedule's smallest time, 0.001, .* 1000 at most",
        ),
    ],
)
def test_what_cannot_work_is_refused(change, message) -> None:
    with pytest.raises(diffkit.SpecError, match=message):
        diffkit.build({**SPEC, **change}, device="cpu")
