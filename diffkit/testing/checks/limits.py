"""The laws of samplers: where a trajectory leads, and how fast it gets there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.noise import BatchNoise
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, NotChecked, by_chance, normal_limit, require, within
from diffkit.testing.oracles import ExactMixture, OracleModel
from diffkit.testing.reference import UniformLogSNR
from diffkit.testing.trajectories import (
    Probe,
    even,
    exact_moments,
    final_sample,
    flow_end,
    flow_start,
    mixture,
    moments_of_trajectory,
    noise_for,
)

MEAN, VARIANCE = 0.6, 0.25
_PROCESSES = (VariancePreserving, VarianceExploding, RectifiedFlow)
END = 0.15
_SIZES = (64, 128, 256)
ROUNDING = 1e-11


@cache
def smooth(process_class: type[GaussianProcess]) -> GaussianProcess:
    """One instance of each, so that its flow is solved once."""
    return process_class(schedule=UniformLogSNR())  # type: ignore[call-arg]


def sampler_of(subject: ComponentUnderTest) -> Sampler:
    """An instance. Raises NotApplicable where it cannot sample from a Gaussian process."""
    sampler: Sampler = subject.make()
    wanted: type[ForwardProcess] = sampler.process_class
    if not issubclass(GaussianProcess, wanted):
        raise NotChecked(
            f"it samples from {wanted.__name__}, for which no exact answer is known here"
        )
    if sampler.inputs:
        raise NotChecked(f"it needs inputs: {', '.join(sampler.inputs)}")
    return sampler


@check
def reaches_the_data(subject: ComponentUnderTest) -> None:
    """With the exact denoiser, 200 steps lead to the data's mean and deviation, on any process."""
    sampler = sampler_of(subject)
    schedule = Linear()
    times = Trailing().times(200, schedule)
    for process_class in _PROCESSES:
        process = process_class(schedule=schedule)
        found = moments_of_trajectory(sampler, process, times, MEAN, VARIANCE)
        name = process_class.__name__
        why = "first-order samplers are within 2 % after so many steps"
        within(f"the mean of the samples, {name}", found.mean, MEAN, 0.03, why)
        within(f"their deviation, {name}", found.deviation, VARIANCE**0.5, 0.03, why)


@check
def reaches_a_mixture(subject: ComponentUnderTest) -> None:
    """With the exact denoiser, samples fall into the modes of a mixture as its weights say."""
    sampler, count = sampler_of(subject), 2000
    process = VariancePreserving(schedule=Linear())
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    denoiser = ExactMixture(process, [[1.0], [-0.8]], [0.02, 0.05], weights.tolist())
    noise = BatchNoise(
        seed=subject.seed_for("mixture"),
        step=0,
        rows=range(count),
        total=count,
        dtype=torch.float64,
    )
    times = Trailing().times(100, process.schedule)
    end = final_sample(sampler, denoiser, process.prior((count, 1), noise), times, noise).flatten()
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
    errors = _errors(sampler)
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


def _errors(sampler: Sampler) -> list[float]:
    return [error_over(sampler, even(steps, 1.0, END)) for steps in _SIZES]


def error_over(sampler: Sampler, times: Sequence[float]) -> float:
    """How far a trajectory from `1.0` to `END` ends from the exact answer.

    Of the mean and the deviation of Gaussian data for one that draws noise; of the flow of the
    kit's mixture, in the root mean square, for one that does not.
    """
    process = smooth(VariancePreserving)
    if is_stochastic(sampler):
        found = moments_of_trajectory(sampler, process, times, MEAN, VARIANCE)
        exact = exact_moments(process, END, MEAN, VARIANCE)
        return max(abs(found.mean - exact.mean), abs(found.deviation - exact.deviation))
    end = final_sample(sampler, mixture(process), flow_start(process, 1.0), times, Probe())
    return float((end - flow_end(process, 1.0, END)).square().mean().sqrt())


def is_stochastic(sampler: Sampler) -> bool:
    """Whether it draws noise between finite noise levels."""
    counting = Probe()
    x = torch.zeros(1, 2, dtype=torch.float64)
    final_sample(sampler, mixture(smooth(VariancePreserving)), x, even(4, 1.0, END), counting)
    return counting.drawn > 0


@check
def follows_the_flow(subject: ComponentUnderTest) -> None:
    """A sampler that draws no noise ends where the probability flow does, on any process."""
    sampler = sampler_of(subject)
    if is_stochastic(sampler):
        raise NotApplicable("it draws noise")
    for process_class in _PROCESSES:
        process = smooth(process_class)
        start = flow_start(process, 1.0)
        end = final_sample(sampler, mixture(process), start, even(200, 1.0, END), Probe())
        why = "first-order samplers err by 2 % of the data's deviation at most, in 200 steps"
        exact = flow_end(process, 1.0, END)
        within(f"the end of the flow, {process_class.__name__}", end, exact, 0.03, why)


@check
def any_network_gives_the_same_trajectory(subject: ComponentUnderTest) -> None:
    """What a network predicts (epsilon, x_0, velocity) makes no difference to the trajectory."""
    sampler = sampler_of(subject)
    process = VariancePreserving(schedule=Linear())
    times = Trailing().times(10, process.schedule)
    x = process.prior((3, 2), noise_for(subject.seed_for("start"), 3))
    ends = []
    for parameterization in (X0(), Epsilon(), Velocity()):
        model = OracleModel(denoiser=mixture(process), parameterization=parameterization)
        denoiser = GaussianDenoiser(model, parameterization, process)
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
