"""The laws of what a Gaussian process does to data: its curve, its transitions, its prior."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from diffkit.bundled.schedules.linear import Linear
from diffkit.core.noise import SampleNoise
from diffkit.core.process import GaussianProcess
from diffkit.testing.check import Check, check
from diffkit.testing.checks.common import chi_square_limits, float64, plain, relatively
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import FALSE_ALARM, NotApplicable, require, within
from diffkit.testing.reference import UniformLogSNR

# Log-SNRs of neighbouring times in the checks differ by 1e-3 at least and carry roundings of
# 1e-14, so their differences have 11 digits.
LAW = 1e-9
LAW_REASON = "differences of log-SNR have 11 digits at these times; a wrong formula has none"
PAIRS = ((0.0, 0.001), (0.0, 1.0), (0.001, 0.002), (0.3, 0.6), (0.6, 0.601), (0.05, 1.0))
"""`(s, t)`: from clean data, neighbours on a grid of 1000, and far apart."""


class Probed(NamedTuple):
    """What an affine map to a Gaussian is, coordinate by coordinate: found by asking it."""

    slope: Tensor
    variance: Tensor


def gaussian_processes(subject: ComponentUnderTest) -> Iterator[GaussianProcess]:
    """The process on a discrete schedule and on a continuous one."""
    for schedule in (Linear(), UniformLogSNR()):
        process = subject.make(schedule=schedule)
        if not isinstance(process, GaussianProcess):
            raise NotApplicable("the process is not Gaussian")
        yield process


def ones(subject: ComponentUnderTest, count: int = 1) -> Tensor:
    """Samples of ones, in float64."""
    return torch.ones(count, *subject.fixtures.shape, dtype=torch.float64)


def probed_scales(process: GaussianProcess, t: float, one: Tensor) -> tuple[Tensor, Tensor]:
    """Give alpha and sigma as `diffuse` uses them."""
    zero = torch.zeros_like(one)
    return process.diffuse(one, t, zero), process.diffuse(zero, t, one)


def probed_transition(process: GaussianProcess, s: float, t: float, one: Tensor) -> Probed:
    """Give `q(x_t | x_s)` as `transition` gives it."""
    zero = torch.zeros_like(one)
    shift = process.transition(zero, s, t)
    slope = process.transition(one, s, t).mean - shift.mean
    return Probed(slope, shift.variance.expand_as(one))


@check
def scales_have_the_log_snr(subject: ComponentUnderTest) -> None:
    """The scales have alpha^2 / sigma^2 = exp(log-SNR), from -30 to 30 and at both infinities."""
    process = next(gaussian_processes(subject))
    log_snr = torch.linspace(-30.0, 30.0, 121, dtype=torch.float64)
    alpha, sigma = process.scales(log_snr)
    plain("alpha", alpha, log_snr.shape)
    plain("sigma", sigma, log_snr.shape)
    positive = bool(((alpha > 0) & (sigma > 0)).all())
    require(positive, "alpha and sigma", measured=min(alpha.min(), sigma.min()), expected="above 0")
    within(
        "2 log(alpha / sigma) against the log-SNR",
        2 * (alpha.log() - sigma.log()),
        log_snr,
        1e-10,
        "float64 leaves 1e-14, unless 1 - alpha^2 or the like loses the digits of what is small",
    )
    alpha, sigma = process.scales(float64(torch.inf, -torch.inf))
    clean = (float(alpha[0]), float(sigma[0]))
    require(
        clean == (1.0, 0.0),
        "alpha and sigma at log-SNR +inf, which is t = 0",
        measured=clean,
        expected=(1.0, 0.0),
        why="x at t = 0 is the data",
    )
    ratio = float(alpha[1] / sigma[1])
    require(ratio == 0.0, "alpha / sigma at log-SNR -inf", measured=ratio, expected=0.0)


@check
def the_log_snr_is_the_schedules(subject: ComponentUnderTest) -> None:
    """One noise level a sample is the schedule's at that time."""
    for process in gaussian_processes(subject):
        for t in (0.0, 0.001, 0.4, 1.0):
            log_snr = process.log_snr(t)
            if log_snr.ndim:
                raise NotApplicable("the process has a noise level of its own for each coordinate")
            wanted = process.schedule.log_snr(t)
            within(f"log_snr({t})", log_snr, wanted, 1e-12, "they are the same numbers")


@check
def diffuse_is_alpha_x_0_plus_sigma_epsilon(subject: ComponentUnderTest) -> None:
    """Diffused data are alpha x_0 + sigma epsilon, at one time or one a sample; x_0 at t = 0."""
    # As many samples as the last axis is long, where a wrong axis would go unnoticed by shape.
    count = max(subject.fixtures.shape[-1], 2)
    generator = subject.generator("diffuse")
    x_0, epsilon = (
        torch.randn(count, *subject.fixtures.shape, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    t = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
    for process in gaussian_processes(subject):
        rows = []
        for row, time in enumerate(t.tolist()):
            alpha, sigma = process.scales(process.log_snr(time))
            rows.append((alpha * x_0[row] + sigma * epsilon[row]).reshape(x_0[row].shape))
            alone = process.diffuse(x_0[row : row + 1], time, epsilon[row : row + 1])
            size = float(alpha.max() + sigma.max())
            why = "rounding, of numbers up to 5 times the scales"
            within(f"diffuse at t = {time:.4g}", alone[0], rows[-1], 1e-12 * size, why)
        together = process.diffuse(x_0, t, epsilon)
        size = float(torch.stack(rows).abs().max())
        within(
            "diffuse at one time a sample against each alone",
            together,
            torch.stack(rows),
            1e-12 * size,
            "the times belong to samples, not to coordinates; only rounding may differ",
        )


@check
def moments_of_diffusion_are_the_closed_form(subject: ComponentUnderTest) -> None:
    """Diffused data have mean alpha x_0 and variance sigma^2, independently."""
    for process in gaussian_processes(subject):
        if process.takes:
            raise NotApplicable("what it draws is the dataset's, which need not be independent")
        count = _enough(subject)
        noise = SampleNoise(
            seed=subject.seed_for("moments"), indices=range(count), dtype=torch.float64
        )
        x_0 = 0.7 * ones(subject, count)
        x_t = process.diffuse(x_0, 0.4, process.draw(x_0, noise))
        alpha, sigma = (c.expand_as(x_0[:1]) for c in process.scales(process.log_snr(0.4)))
        standard = (x_t - alpha * x_0) / sigma
        _is_standard_normal("(x_t - alpha x_0) / sigma", standard, 1.0, 1.0)


@check
def the_prior_is_the_end_of_the_process(subject: ComponentUnderTest) -> None:
    """The prior has mean 0 and a variance from sigma_1^2 (no data) to alpha_1^2 + sigma_1^2."""
    for process in gaussian_processes(subject):
        if process.takes:
            raise NotApplicable("what it draws is the dataset's, which need not be independent")
        count = _enough(subject)
        noise = SampleNoise(
            seed=subject.seed_for("prior"), indices=range(count), dtype=torch.float64
        )
        x_1 = process.prior((count, *subject.fixtures.shape), noise)
        alpha, sigma = (c.expand_as(x_1[:1]) for c in process.scales(process.log_snr(1.0)))
        most = float((1 + (alpha / sigma).square()).max())
        _is_standard_normal("prior / sigma_1", x_1 / sigma, 1.0, most)


@check
def iterating_transitions_is_jumping(subject: ComponentUnderTest) -> None:
    """A transition q(x_u | x_s) followed by q(x_t | x_u) is q(x_t | x_s) (Chapman-Kolmogorov)."""
    one = ones(subject)
    for process in gaussian_processes(subject):
        for s, u, t in (
            (0.0, 0.001, 0.002),
            (0.0, 0.5, 1.0),
            (0.2, 0.201, 0.202),
            (0.1, 0.4, 0.9),
            (0.998, 0.999, 1.0),
        ):
            first = probed_transition(process, s, u, one)
            second = probed_transition(process, u, t, one)
            jump = probed_transition(process, s, t, one)
            steps = f"from {s} over {u} to {t}"
            slope = first.slope * second.slope
            relatively(f"the slope {steps}", slope, jump.slope, LAW, LAW_REASON)
            variance = second.slope.square() * first.variance + second.variance
            relatively(f"the variance {steps}", variance, jump.variance, LAW, LAW_REASON)


@check
def transitions_continue_diffusion(subject: ComponentUnderTest) -> None:
    """Diffusion to s followed by q(x_t | x_s) has the moments of diffuse to t."""
    one = ones(subject)
    for process in gaussian_processes(subject):
        for s, t in PAIRS:
            (alpha_s, sigma_s), (alpha_t, sigma_t) = (
                probed_scales(process, time, one) for time in (s, t)
            )
            slope, variance = probed_transition(process, s, t, one)
            steps = f"from {s} to {t}"
            relatively(f"the mean {steps}", slope * alpha_s, alpha_t, LAW, LAW_REASON)
            total = slope.square() * sigma_s.square() + variance
            relatively(f"the variance {steps}", total, sigma_t.square(), LAW, LAW_REASON)


@check
def dtype_follows_the_data(subject: ComponentUnderTest) -> None:
    """All of diffuse, posterior, interpret and reverse give the dtype of their samples."""
    process = next(gaussian_processes(subject))
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        x = ones(subject, 2).to(dtype)
        noise = SampleNoise(seed=subject.seed_for("dtype"), indices=range(2), dtype=dtype)
        results = {"diffuse": process.diffuse(x, 0.5, x)}
        results["diffuse at one time a sample"] = process.diffuse(x, float64(0.5, 0.2), x)
        results["posterior"] = process.posterior(x, x, 0.5, 0.2).mean
        prediction = process.interpret(x, x, 0.5)
        results["interpret's x_0"] = prediction.x_0
        results["reverse"] = process.reverse(prediction, x, 0.5, 0.2, noise)
        results["reverse to t = 0"] = process.reverse(prediction, x, 0.5, 0.0, noise)
        for name, result in results.items():
            require(
                result.dtype == dtype,
                f"the dtype of {name}",
                measured=result.dtype,
                expected=dtype,
            )


def _enough(subject: ComponentUnderTest) -> int:
    return max(64, math.ceil(4096 / math.prod(subject.fixtures.shape)))


def _is_standard_normal(what: str, x: Tensor, least: float, most: float) -> None:
    """The mean is 0, the variance in between, no two samples or coordinates move together."""
    x = x.flatten(1)
    rows, columns = x.shape
    why = f"a right one is outside with probability {FALSE_ALARM:g} at most"
    # Each of the four is a mean of squares of standard normal numbers if all is right.
    for name, values in (
        ("its mean, squared, times the count", x.mean().reshape(1) * math.sqrt(x.numel())),
        ("its variance", x.flatten()),
        ("the variance of samples' means, times the coordinates", x.mean(1) * math.sqrt(columns)),
        ("the variance of coordinates' means, times the samples", x.mean(0) * math.sqrt(rows)),
    ):
        low, high = chi_square_limits(values.numel(), comparisons=4)
        measured = float(values.square().mean())
        require(
            low * least <= measured <= high * most,
            f"{what}: {name}",
            measured=f"{measured:.6g}",
            expected=f"from {low * least:.6g} to {high * most:.6g}",
            why=why,
        )


FORWARD_CHECKS: tuple[Check, ...] = (
    scales_have_the_log_snr,
    the_log_snr_is_the_schedules,
    diffuse_is_alpha_x_0_plus_sigma_epsilon,
    moments_of_diffusion_are_the_closed_form,
    the_prior_is_the_end_of_the_process,
    iterating_transitions_is_jumping,
    transitions_continue_diffusion,
    dtype_follows_the_data,
)
