"""Using what is mathematics alone: no network, no data."""

from __future__ import annotations

import torch
from torch import Tensor

from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.parameterization import Parameterization
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.spacing import Spacing
from diffkit.core.times import TimesState, TrainingTimes
from diffkit.core.weighting import Weighting
from diffkit.errors import ComponentError
from diffkit.testing.checks.any_process import outputs_of, trial_of
from diffkit.testing.checks.setups import exact_for, shape_for, with_inputs
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable
from diffkit.testing.processes import gaussian_for
from diffkit.testing.reference import UniformLogSNR
from diffkit.testing.trajectories import RecordingDenoiser, states_of
from diffkit.testing.usages.not_gaussian import use_sampler_of
from diffkit.testing.usages.record import COUNT, Usage, noise_for, samples_for

_LOSSES, _STEP = 30_000, 7919
"""How many losses a time distribution is given at once: thirty for each time of a grid of 1000."""


def use_schedule(
    subject: ComponentUnderTest, schedule: NoiseSchedule, done: Usage, _: torch.dtype
) -> None:
    """Ask for log-SNRs and back, from end to end."""
    # To both ends: the clipping of some schedules touches their last step alone.
    t = done.give("t", torch.linspace(0.0, 1.0, 41, dtype=torch.float64)[1:])
    log_snr = done.give("log_snr", schedule.log_snr(t).detach().clone())
    done.outputs["log_snr"] = schedule.log_snr(t)
    done.outputs["time_at"] = schedule.time_at(log_snr)
    done.outputs["snap"] = schedule.snap(t)
    done.outputs["t_min"] = torch.tensor(schedule.t_min)


def use_process(
    subject: ComponentUnderTest, process: ForwardProcess, done: Usage, dtype: torch.dtype
) -> None:
    """Diffuse, draw and go back between two times."""
    if not isinstance(process, GaussianProcess) or process.takes:
        trial = trial_of(subject, process, COUNT, dtype)
        done.give("x_0", trial.x_0)
        done.give("output", trial.output)
        done.outputs.update(outputs_of(subject, trial, dtype))
        return
    noise = noise_for(subject, dtype)
    shape = (COUNT, *subject.fixtures.shape)
    x_0 = done.give("x_0", samples_for(subject, dtype))
    epsilon = process.draw(x_0, noise)
    x_t = done.give("x_t", process.diffuse(x_0, 0.6, epsilon).detach())
    prediction = process.interpret(done.give("output", epsilon.clone()), x_t, 0.6)
    done.outputs["draw"] = epsilon
    done.outputs["diffuse"] = process.diffuse(x_0, 0.3, epsilon)
    done.outputs["prior"] = process.prior(shape, noise)
    done.outputs["x_0"] = prediction.x_0
    done.outputs["reverse"] = process.reverse(prediction, x_t, 0.6, 0.4, noise)
    done.outputs["posterior"] = process.posterior(x_0, x_t, 0.6, 0.4).mean


def use_sampler(
    subject: ComponentUnderTest, sampler: Sampler, done: Usage, dtype: torch.dtype
) -> None:
    """Take eight steps with an exact denoiser, with a data range and without."""
    subject.require_extras(sampler.extras)
    process = gaussian_for(subject, sampler.process_class)
    if process is None:
        use_sampler_of(subject, sampler, done, dtype)
        return
    sampler = with_inputs(subject, sampler)
    times = Trailing().times(8, process.schedule)
    for name, data_range in (("free", None), ("ranged", (-1.0, 1.0))):
        noise = noise_for(subject, dtype)
        x = done.give("x", process.prior((COUNT, *shape_for(subject)), noise))
        denoiser = RecordingDenoiser(exact_for(subject, process), data_range)
        try:
            states = list(states_of(sampler, denoiser, x, times, noise))
        except ComponentError as refused:
            # A sampler may refuse data without a range.
            if data_range is None:
                continue
            raise NotApplicable(str(refused)) from refused
        done.outputs.update({f"{name}, t = {state.t:.3g}": state.x for state in states})


def use_parameterization(
    subject: ComponentUnderTest, parameterization: Parameterization, done: Usage, _: torch.dtype
) -> None:
    """Ask for its coefficients at times from end to end."""
    process = VariancePreserving(schedule=UniformLogSNR())
    t = done.give("t", torch.linspace(0.01, 0.99, 9, dtype=torch.float64))
    log_snr = done.give("log_snr", process.log_snr(t))
    scales = process.scales(log_snr)
    for name, value in zip(("alpha", "sigma"), scales, strict=True):
        done.give(name, value)
    target = parameterization.target(scales)
    done.outputs["on_x_0"], done.outputs["on_epsilon"] = target
    done.outputs["c_in"] = parameterization.c_in(scales)
    done.outputs["c_noise"] = parameterization.c_noise(t, log_snr)


def use_times(
    subject: ComponentUnderTest, times: TrainingTimes, done: Usage, _: torch.dtype
) -> None:
    """Draw times, and where it learns, hand losses over and draw again."""
    uniform = done.give("uniform", torch.linspace(0, 0.999, 50, dtype=torch.float64))
    done.outputs["every"] = torch.tensor(times.every)
    for schedule in (Linear(), UniformLogSNR()):
        name = type(schedule).__name__
        try:
            state = times.init(schedule)
        except ComponentError:
            continue  # Some are defined on a grid only.
        done.outputs[f"t, {name}"], done.outputs[f"weight, {name}"] = times.draw(uniform, schedule)
        for number in range(2 if state else 0):
            for key, value in state.items():
                done.give(f"{key} {number}, {name}", value)
            t, values = losses_of(times, schedule, state)
            given = (done.give(f"{n} {number}, {name}", v) for n, v in (("t", t), ("loss", values)))
            state = times.update(state, *given)
            drawn = times.draw_learned(uniform, schedule, state)
            done.outputs[f"t {number}, {name}"], done.outputs[f"weight {number}, {name}"] = drawn
            done.outputs.update({f"{k} {number}, {name}": v for k, v in state.items()})


def losses_of(
    times: TrainingTimes, schedule: NoiseSchedule, state: TimesState
) -> tuple[Tensor, Tensor]:
    """Losses that grow with t and over training, at times drawn with `state` and so weighted."""
    even = (torch.arange(_LOSSES, dtype=torch.float64) + 0.5) / _LOSSES
    # Neighbours in training are not neighbours in time: a step that shares no factor with them.
    mixed = even[(torch.arange(_LOSSES) * _STEP) % _LOSSES]
    t, weight = times.draw_learned(mixed, schedule, state)
    return t, weight * (0.5 + t) * (1.0 + 0.5 * even)


def use_weighting(
    subject: ComponentUnderTest, weighting: Weighting, done: Usage, _: torch.dtype
) -> None:
    """Ask for weights, and for those of a network's output."""
    log_snr = done.give("log_snr", torch.linspace(-12, 12, 25, dtype=torch.float64))
    done.outputs["weight"] = weighting.weight(log_snr)
    scales = VariancePreserving(schedule=Linear()).scales(log_snr)
    levels = (log_snr, scales, Velocity().target(scales))
    done.outputs["of output"] = weighting.of_output(*levels)


def use_spacing(subject: ComponentUnderTest, spacing: Spacing, done: Usage, _: torch.dtype) -> None:
    """Ask for ten steps of a discrete and of a continuous schedule."""
    for schedule in (Linear(), UniformLogSNR()):
        try:
            times = spacing.times(10, schedule)
        except ComponentError:
            continue  # Some are defined on discrete schedules only.
        done.outputs[type(schedule).__name__] = torch.tensor(times, dtype=torch.float64)
