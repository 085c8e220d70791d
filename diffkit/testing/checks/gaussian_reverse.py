"""The laws of how a Gaussian process is reversed: posterior, variance, prediction, draw."""

from __future__ import annotations

from itertools import pairwise, product

import torch
from torch import Tensor

from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction, Target
from diffkit.core.process import GaussianProcess
from diffkit.testing.check import Check, check
from diffkit.testing.checks.common import ImpulseNoise, relatively
from diffkit.testing.checks.gaussian_forward import (
    LAW,
    LAW_REASON,
    PAIRS,
    gaussian_processes,
    ones,
    probed_scales,
    probed_transition,
)
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import within

_FRACTIONS = (None, 0.0, 0.5, 1.0)


@check
def the_posterior_obeys_bayes(subject: ComponentUnderTest) -> None:
    """By Bayes' rule, q(x_s | x_t, x_0) is what q(x_t | x_s) and q(x_s | x_0) make it."""
    one = ones(subject)
    zero = torch.zeros_like(one)
    for process in gaussian_processes(subject):
        for s, t in PAIRS:
            alpha_s, sigma_s = probed_scales(process, s, one)
            slope, added = probed_transition(process, s, t, one)
            # Precisions add: 1/variance = 1/sigma_s^2 + slope^2/added, multiplied out so that
            # s = 0 needs no exception.
            evidence = slope.square() * sigma_s.square() + added
            on_x_t = slope * sigma_s.square() / evidence
            on_x_0 = alpha_s * added / evidence
            steps = f"of x_{s} given x_{t} and x_0"
            found = process.posterior(zero, one, t, s)
            relatively(
                f"the weight of x_t in the mean {steps}", found.mean, on_x_t, LAW, LAW_REASON
            )
            found = process.posterior(one, zero, t, s)
            relatively(
                f"the weight of x_0 in the mean {steps}", found.mean, on_x_0, LAW, LAW_REASON
            )
            wanted = sigma_s.square() * added / evidence
            variance = found.variance.expand_as(one)
            relatively(f"the variance {steps}", variance, wanted, LAW, LAW_REASON)


@check
def the_posterior_at_clean_data_is_the_data(subject: ComponentUnderTest) -> None:
    """The posterior at s = 0 has mean x_0 and variance 0."""
    x_0 = torch.randn(ones(subject, 3).shape, generator=subject.generator("x_0")).double()
    for process in gaussian_processes(subject):
        for t in (0.001, 0.5, 1.0):
            mean, variance = process.posterior(x_0, 5 * torch.ones_like(x_0), t, 0.0)
            within(f"the mean from t = {t}", mean, x_0, 1e-12, "rounding of numbers up to 5")
            within(f"the variance from t = {t}", variance, 0.0, 0.0, "nothing is left to chance")


@check
def interpret_recovers_data_and_noise(subject: ComponentUnderTest) -> None:
    """What interpret gives has the true x_0 and epsilon, whatever the network predicts."""
    generator = subject.generator("interpret")
    x_0, epsilon = (
        torch.randn(4, *subject.fixtures.shape, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    for process in gaussian_processes(subject):
        for t in (0.2, 0.5, 0.8):
            alpha, sigma = process.scales(process.log_snr(t))
            x_t = process.diffuse(x_0, t, epsilon)
            one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
            for name, target in (
                ("nothing said (epsilon)", None),
                ("epsilon", Target(zero, one)),
                ("x_0", Target(one, zero)),
                ("velocity", Target(-sigma, alpha)),
                ("flow", Target(-one, one)),
            ):
                on_x_0, on_epsilon = target or Target(zero, one)
                output = on_x_0 * x_0 + on_epsilon * epsilon
                found = process.interpret(output, x_t, t, target)
                what = f"from an output of {name} at t = {t}"
                size = float(1 / min(alpha.min(), sigma.min()) + sigma.max())
                why = "rounding, amplified by the division by alpha or sigma"
                within(f"x_0 {what}", found.x_0, x_0, 1e-12 * size**2, why)
                within(f"epsilon {what}", found.epsilon, epsilon, 1e-12 * size**2, why)


@check
def log_variance_lies_where_the_fraction_says(subject: ComponentUnderTest) -> None:
    """The log-variance goes, evenly in log space, from the posterior's variance to the largest."""
    one = ones(subject)
    for process in gaussian_processes(subject):
        for s, t in (pair for pair in PAIRS if pair[0] > 0):
            (alpha_s, sigma_s), (alpha_t, sigma_t) = (
                probed_scales(process, time, one) for time in (s, t)
            )
            added = probed_transition(process, s, t, one).variance
            smallest = (added * (sigma_s / sigma_t).square()).log()
            unit_data = (alpha_s.square() + sigma_s.square()) / (
                alpha_t.square() + sigma_t.square()
            )
            largest = (added * unit_data).log()
            for fraction in _FRACTIONS:
                prediction = _knows(process, one, one, t, fraction)
                found = process.log_variance(prediction, t, s).expand_as(one)
                wanted = torch.lerp(smallest, largest, fraction or 0.0)
                what = f"log_variance from {t} to {s} at the fraction {fraction}"
                within(what, found, wanted, LAW, LAW_REASON)


@check
def the_largest_variance_is_exact_for_unit_data(subject: ComponentUnderTest) -> None:
    """With the exact denoiser of N(0, 1) data, reverse at fraction 1 keeps the marginals."""
    one = ones(subject)
    times = (1.0, 0.75, 0.5, 0.499, 0.1, 0.002, 0.001)
    for process in gaussian_processes(subject):
        for t, s in pairwise(times):
            (alpha_s, sigma_s), (alpha_t, sigma_t) = (
                probed_scales(process, time, one) for time in (s, t)
            )
            total_s, total_t = (
                a.square() + b.square() for a, b in ((alpha_s, sigma_s), (alpha_t, sigma_t))
            )
            # E[x_0 | x_t] of such data; the trajectory is linear, so its variance follows from
            # probes.
            knows = _knows(process, alpha_t / total_t * one, one, t, 1.0)
            slope, variance = _probed_reverse(process, knows, one, t, s)
            what = f"the variance at {s}, coming from {t}"
            found = slope.square() * total_t + variance
            relatively(what, found, total_s, LAW, LAW_REASON)


@check
def reverse_draws_what_it_says(subject: ComponentUnderTest) -> None:
    """A reverse step draws from the posterior at the predicted x_0, with that log-variance."""
    generator = subject.generator("reverse")
    x_0, x_t = (
        torch.randn(2, *subject.fixtures.shape, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    each = torch.rand(x_t.shape, generator=generator, dtype=torch.float64)
    for process in gaussian_processes(subject):
        for t, s in ((1.0, 0.5), (0.6, 0.599), (0.002, 0.001)):
            for fraction in (*_FRACTIONS, each):
                prediction = _knows(process, x_0, x_t, t, fraction)
                mean, variance = _probed_reverse(process, prediction, x_t, t, s)
                wanted = process.posterior(x_0, x_t, t, s).mean
                name = "one a coordinate" if isinstance(fraction, Tensor) else fraction
                what = f"of a draw from {t} to {s} with the variance fraction {name}"
                why = "rounding, of scales up to 200 for the noisiest"
                size = float(1.0 + wanted.abs().max())
                within(f"the mean {what}", mean, wanted, 1e-11 * size, why)
                wanted = process.log_variance(prediction, t, s).exp().expand_as(x_t)
                # What is measured is a small difference of large numbers.
                size = 1e-6 * float(mean.abs().max()) ** 2
                relatively(f"the variance {what}", variance, wanted, LAW, LAW_REASON, size=size)


@check
def the_last_step_adds_no_noise(subject: ComponentUnderTest) -> None:
    """A reverse step to s = 0 gives the predicted x_0, whatever the noise."""
    x_0 = torch.randn(ones(subject, 2).shape, generator=subject.generator("x_0")).double()
    x_t = torch.ones_like(x_0)
    for process in gaussian_processes(subject):
        for t, fraction, call in product((1.0, 0.001), (None, 1.0), (None, 0)):
            prediction = _knows(process, x_0, x_t, t, fraction)
            drawn = process.reverse(prediction, x_t, t, 0.0, ImpulseNoise(call))
            what = f"reverse from t = {t} to 0, with noise of {'zeros' if call is None else 'ones'}"
            within(what, drawn, x_0, 1e-12, "rounding of numbers up to 5")


@check
def samples_have_their_own_times(subject: ComponentUnderTest) -> None:
    """Posterior and transition at one time a sample are those of each sample alone."""
    count = max(subject.fixtures.shape[-1], 2)
    generator = subject.generator("times")
    x_0, x_t = (
        torch.randn(count, *subject.fixtures.shape, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    t = torch.linspace(0.1, 1.0, count, dtype=torch.float64)
    s = t / 2
    for process in gaussian_processes(subject):
        posterior, transition = process.posterior(x_0, x_t, t, s), process.transition(x_0, s, t)
        for row in range(count):
            only, times = slice(row, row + 1), (float(t[row]), float(s[row]))
            alone = process.posterior(x_0[only], x_t[only], *times)
            moved = process.transition(x_0[only], times[1], times[0])
            for name, found, wanted in (
                ("posterior's mean", posterior.mean, alone.mean),
                ("posterior's variance", posterior.variance, alone.variance),
                ("transition's mean", transition.mean, moved.mean),
                ("transition's variance", transition.variance, moved.variance),
            ):
                found = found.expand_as(x_0)[only]
                why = "the times belong to samples, not to coordinates; only rounding may differ"
                relatively(
                    f"the {name} of sample {row} of {count}",
                    found,
                    wanted.expand_as(found),
                    1e-11,
                    why,
                    size=float(wanted.abs().max()),
                )


def _knows(
    process: GaussianProcess, x_0: Tensor, x_t: Tensor, t: float, fraction: Tensor | float | None
) -> GaussianPrediction:
    """A prediction of exactly this x_0."""
    scales = process.scales(process.log_snr(t))
    one = torch.ones_like(scales.alpha)
    return GaussianPrediction(x_0, x_t, Target(one, torch.zeros_like(one)), scales, fraction)


def _probed_reverse(
    process: GaussianProcess, prediction: GaussianPrediction, x_t: Tensor, t: float, s: float
) -> tuple[Tensor, Tensor]:
    """The mean and the variance of a draw, found by noise of zeros and of ones."""
    still = ImpulseNoise(None)
    mean = process.reverse(prediction, x_t, t, s, still)
    variance = torch.zeros_like(mean)
    for call in range(still.calls):
        noise: Noise = ImpulseNoise(call)
        variance += (process.reverse(prediction, x_t, t, s, noise) - mean).square()
    return mean, variance


REVERSE_CHECKS: tuple[Check, ...] = (
    the_posterior_obeys_bayes,
    the_posterior_at_clean_data_is_the_data,
    interpret_recovers_data_and_noise,
    log_variance_lies_where_the_fraction_says,
    the_largest_variance_is_exact_for_unit_data,
    reverse_draws_what_it_says,
    the_last_step_adds_no_noise,
    samples_have_their_own_times,
)
