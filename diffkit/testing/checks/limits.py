"""The laws of samplers: where a trajectory leads, and how fast it gets there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.denoiser import Declared
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.noise import BatchNoise
from diffkit.core.process import GaussianProcess
from diffkit.core.sampler import Sampler
from diffkit.testing.beside import MEAN, VARIANCE, end_of, placed, start_of
from diffkit.testing.check import Check, check
from diffkit.testing.checks.setups import (
    consent,
    curves_of,
    exact_for,
    sampler_of,
    shape_for,
    told,
)
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, by_chance, normal_limit, require, within
from diffkit.testing.oracles import ExactGaussian, ExactMixture, OracleModel
from diffkit.testing.processes import Curve
from diffkit.testing.reference import UniformLogSNR
from diffkit.testing.trajectories import (
    Moments,
    Probe,
    even,
    exact_moments,
    final_sample,
    mixture,
    moments_of_trajectory,
    noise_for,
)

END = 0.15
_SIZES = (64, 128, 256)
ROUNDING = 1e-11


@cache
def smooth(curve: Curve) -> GaussianProcess:
    """One instance of each, so that its flow is solved once."""
    return curve(UniformLogSNR())


@check
def reaches_the_data(subject: ComponentUnderTest) -> None:
    """With the exact denoiser, 200 steps lead to the data's mean and deviation, on any process."""
    sampler = sampler_of(subject)
    schedule = Linear()
    times = Trailing().times(200, schedule)
    for curve in curves_of(subject):
        process = curve(schedule)
        found = _moments(subject, sampler, process, times)
        name = type(process).__name__
        why = "first-order samplers are within 2 % after so many steps"
        within(f"the mean of the samples, {name}", found.mean, MEAN, 0.03, why)
        within(f"their deviation, {name}", found.deviation, VARIANCE**0.5, 0.03, why)


def _moments(
    subject: ComponentUnderTest, sampler: Sampler, process: GaussianProcess, times: Sequence[float]
) -> Moments:
    """Of the end of a trajectory to Gaussian data, exactly."""
    denoiser = told(subject, ExactGaussian(process, MEAN, VARIANCE))
    start = exact_moments(process, times[0], MEAN, VARIANCE)
    shape = shape_for(subject) if subject.fixtures.shape_is_given else (1,)
    return moments_of_trajectory(sampler, denoiser, times, start, shape)


@check
def reaches_a_mixture(subject: ComponentUnderTest) -> None:
    """With the exact denoiser, samples fall into the modes of a mixture as its weights say."""
    sampler, count = sampler_of(subject), 2000
    process = curves_of(subject)[0](Linear())
    shape = subject.fixtures.shape if subject.fixtures.shape_is_given else (1,)
    exact = ExactMixture(process, [[1.0], [-0.8]], [0.02, 0.05], [0.3, 0.7])
    denoiser = told(subject, placed(exact, 1, shape))
    noise = BatchNoise(
        seed=subject.seed_for("mixture"),
        step=0,
        rows=range(count),
        total=count,
        dtype=torch.float64,
    )
    times = Trailing().times(100, process.schedule)
    x = process.prior((count, *shape), noise)
    end = final_sample(sampler, denoiser, x, times, noise).flatten(1)[:, 0]
    right = end > 0.1
    limit = normal_limit(3)
    why = f"{by_chance(f'{count} samples', 3)}, and 2 % for 100 steps"
    share_error = limit * math.sqrt(0.3 * 0.7 / count) + 0.02
    within("the share in the right mode", float(right.double().mean()), 0.3, share_error, why)
    for chosen, mean, variance in ((right, 1.0, 0.02), (~right, -0.8, 0.05)):
        inside = end[chosen]
        error = limit * math.sqrt(variance / max(inside.numel(), 1)) + 0.02
        within(f"the mean of the mode at {mean}", float(inside.mean()), mean, error, why)


@check
def converges_as_declared(subject: ComponentUnderTest) -> None:
    """On a schedule even in log-SNR, between finite noise levels, the error falls as declared."""
    sampler = sampler_of(subject)
    if sampler.order is None:
        raise NotApplicable("it declares no order")
    consent(subject, smooth(curves_of(subject)[0]))
    errors = _errors(subject, sampler)
    finest = " ".join(f"{n}: {e:.3g}" for n, e in zip(_SIZES, errors, strict=True))
    if errors[-1] < ROUNDING:
        raise NotApplicable(f"it is exact here, but for rounding (steps: error; {finest})")
    measured = math.log2(errors[-2] / errors[-1])
    require(
        abs(measured - sampler.order) <= 0.2,
        f"the order, from the errors at so many steps: {finest}",
        measured=f"{measured:.2f}",
        expected=f"{sampler.order} within 0.2",
        why="at these sizes the next term of the error changes the slope by less",
    )


def _errors(subject: ComponentUnderTest, sampler: Sampler) -> list[float]:
    return [error_over(subject, sampler, even(steps, 1.0, END)) for steps in _SIZES]


def error_over(subject: ComponentUnderTest, sampler: Sampler, times: Sequence[float]) -> float:
    """How far a trajectory from `1.0` to `END` ends from the exact answer.

    Of the mean and the deviation of Gaussian data for one that draws noise; of the flow of the
    kit's mixture, in the root mean square, for one that does not.
    """
    process = smooth(curves_of(subject)[0])
    if is_stochastic(subject, sampler):
        found = _moments(subject, sampler, process, times)
        exact = exact_moments(process, END, MEAN, VARIANCE)
        return max(abs(found.mean - exact.mean), abs(found.deviation - exact.deviation))
    return float(_off_the_flow(subject, sampler, process, times).square().mean().sqrt())


def _off_the_flow(
    subject: ComponentUnderTest, sampler: Sampler, process: GaussianProcess, times: Sequence[float]
) -> Tensor:
    """The end of a trajectory from `1.0` to `END`, less that of the exact flow."""
    shape = shape_for(subject)
    x = start_of(process, shape, 1.0)
    end = final_sample(sampler, exact_for(subject, process), x, times, Probe())
    return end - end_of(process, shape, 1.0, END)


def is_stochastic(subject: ComponentUnderTest, sampler: Sampler) -> bool:
    """Whether it draws noise between finite noise levels."""
    counting, process = Probe(), smooth(curves_of(subject)[0])
    x = torch.zeros(1, *shape_for(subject), dtype=torch.float64)
    final_sample(sampler, exact_for(subject, process), x, even(4, 1.0, END), counting)
    return counting.drawn > 0


@check
def follows_the_flow(subject: ComponentUnderTest) -> None:
    """A sampler that draws no noise ends where the probability flow does, on any process."""
    sampler = sampler_of(subject)
    consent(subject, smooth(curves_of(subject)[0]))
    if is_stochastic(subject, sampler):
        raise NotApplicable("it draws noise")
    for curve in curves_of(subject):
        process = smooth(curve)
        apart = _off_the_flow(subject, sampler, process, even(200, 1.0, END))
        why = "first-order samplers err by 2 % of the data's deviation at most, in 200 steps"
        what = f"the end, less that of the flow, {type(process).__name__}"
        within(what, apart, 0.0, 0.03, why)


@check
def any_network_gives_the_same_trajectory(subject: ComponentUnderTest) -> None:
    """What a network predicts (epsilon, x_0, velocity) makes no difference to the trajectory."""
    sampler = sampler_of(subject)
    process = curves_of(subject)[0](Linear())
    times = Trailing().times(10, process.schedule)
    shape = shape_for(subject)
    x = process.prior((3, *shape), noise_for(subject.seed_for("start"), 3))
    exact = placed(mixture(process), 2, shape) if math.prod(shape) > 1 else ExactGaussian(process)
    # It takes whatever the sampler says that it tells the network with a question.
    declared = Declared(given=sampler.gives, times=sampler.gives)
    ends = []
    for parameterization in (X0(), Epsilon(), Velocity()):
        model = OracleModel(denoiser=exact, parameterization=parameterization)
        denoiser = told(
            subject, GaussianDenoiser(model, parameterization, process, declared=declared)
        )
        ends.append(
            final_sample(sampler, denoiser, x, times, noise_for(subject.seed_for("noise"), 3))
        )
    why = "networks are told the time in float32, whose error the first steps enlarge most"
    for name, end in zip(("epsilon", "velocity"), ends[1:], strict=True):
        within(f"the end for a network that predicts {name}", end, ends[0], 1e-5, why)


CHECKS: tuple[Check, ...] = (
    reaches_the_data,
    reaches_a_mixture,
    converges_as_declared,
    follows_the_flow,
    any_network_gives_the_same_trajectory,
)
