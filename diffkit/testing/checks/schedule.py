"""The laws of schedules; those about their arithmetic are in a module beside this."""

from __future__ import annotations

import torch
from torch import Tensor

from diffkit.core.schedule import NoiseSchedule
from diffkit.testing.check import Check, check
from diffkit.testing.checks.common import distinct, float64, plain, refused, relatively
from diffkit.testing.checks.schedule_arithmetic import (
    ARITHMETIC_CHECKS,
    ROUNDING,
    half_steps,
    random_times,
)
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require, within


@check
@torch.no_grad()
def log_snr_strictly_decreases(subject: ComponentUnderTest) -> None:
    """The log-SNR is finite and strictly decreasing on (0, 1)."""
    schedule: NoiseSchedule = subject.make()
    even = torch.linspace(0.0, 1.0, 2002, dtype=torch.float64)[1:-1]
    # Steps of a thousandfold towards both ends, so that a curve that is level there passes.
    ends = float64(1e-9, 1e-6, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-6, 1 - 1e-9)
    for name, t in (("even times", even), ("times near the ends", ends)):
        _decreases(schedule, name, t)
    if schedule.steps is not None and schedule.steps > 1:
        _decreases(schedule, "grid times and middles", half_steps(schedule.steps))


@check
@torch.no_grad()
def log_snr_at_both_ends(subject: ComponentUnderTest) -> None:
    """The log-SNR is +inf at t = 0, which is clean data, and the smallest at t = 1."""
    schedule: NoiseSchedule = subject.make()
    for what, t in (("a number", 0.0), ("a tensor", float64(0.0, 0.5))):
        first = float(schedule.log_snr(t).flatten()[0])
        require(
            first == torch.inf, f"log_snr(0), asked with {what}", measured=first, expected="inf"
        )
    last, before = float(schedule.log_snr(1.0)), float(schedule.log_snr(1 - 1e-6))
    require(
        last < before, "log_snr(1)", measured=last, expected=f"below log_snr(1 - 1e-6) = {before}"
    )
    clean = schedule.time_at(float64(torch.inf))
    within("time_at(inf)", clean, float64(0.0), 0.0, "log_snr(0) = inf by definition")


@check
@torch.no_grad()
def log_snr_takes_numbers_and_tensors(subject: ComponentUnderTest) -> None:
    """The log-SNR is the same for a number, a vector and any other shape, always in float64."""
    schedule: NoiseSchedule = subject.make()
    # These times are exact in float32 too.
    t = float64(0.0625, 0.25, 0.375, 0.5, 0.75, 0.9375)
    expected = torch.stack([schedule.log_snr(float(time)) for time in t])
    plain("log_snr of a number", schedule.log_snr(0.5), ())
    for what, times in (
        ("a vector", t),
        ("a vector of one", t[:1]),
        ("a matrix", t.reshape(2, 3)),
        ("a tensor without dimensions", t[3]),
        ("a float32 vector", t.float()),
    ):
        result = schedule.log_snr(times)
        plain(f"log_snr of {what}", result, times.shape)
        each = expected[3] if times.ndim == 0 else expected[: times.numel()]
        relatively(
            f"log_snr of {what} against log_snr of each number",
            result.flatten(),
            each.flatten(),
            ROUNDING,
            "only rounding may differ: 1e-12 is thousands of units in the last place",
            size=1.0,
        )


@check
@torch.no_grad()
def time_at_inverts(subject: ComponentUnderTest) -> None:
    """Asking time_at of log_snr(t) gives t, and float64 in the shape of t."""
    schedule: NoiseSchedule = subject.make()
    t = random_times(subject, schedule, 500).sort().values
    if schedule.steps is not None:
        t = distinct(torch.cat([t, half_steps(schedule.steps)]))
    t = t[schedule.log_snr(t).isfinite()]
    log_snr = schedule.log_snr(t)
    back = schedule.time_at(log_snr)
    plain("time_at of a vector", back, t.shape)
    plain("time_at of one number", schedule.time_at(log_snr[0]), ())
    plain("time_at of a matrix", schedule.time_at(log_snr[:4].reshape(2, 2)), (2, 2))
    # What a rounding of log_snr is worth in t, at the slope between random times.
    slope = (log_snr[-1] - log_snr[0]).abs() / (t[-1] - t[0])
    steepness = torch.gradient(log_snr, spacing=(t,))[0].abs().clamp(min=1e-6 * float(slope))
    allowed = 1e-9 * t + 1e-14 * (1 + log_snr.abs()) / steepness
    worst = int(((back - t).abs() / allowed).nan_to_num(nan=torch.inf).argmax())
    within(
        "time_at(log_snr(t)) against t",
        back[worst],
        t[worst],
        float(allowed[worst]),
        "a relative 1e-9, a millionth of a step of T = 1000 at most, and what a rounding of "
        "log_snr is worth at its slope",
    )


@check
@torch.no_grad()
def time_at_refuses_more_noise_than_there_is(subject: ComponentUnderTest) -> None:
    """Asking time_at raises ComponentError below log_snr(1), where that is finite."""
    schedule: NoiseSchedule = subject.make()
    last = schedule.log_snr(1.0)
    if not bool(last.isfinite()):
        raise NotApplicable("log_snr(1) is -inf, so every noise level has its time")
    size = max(1.0, abs(float(last)))
    for less in (0.1 * size, 10.0 * size):
        refused(f"time_at(log_snr(1) - {less:.4g})", schedule.time_at, last - less)
    mixed = torch.stack([schedule.log_snr(0.5), last - size])
    refused("time_at of a vector with one such log-SNR", schedule.time_at, mixed)


@check
@torch.no_grad()
def times_outside_are_refused(subject: ComponentUnderTest) -> None:
    """Asking log_snr raises ComponentError for times outside [0, 1]."""
    schedule: NoiseSchedule = subject.make()
    for t in (-1e-3, 1 + 1e-3, float("nan")):
        refused(f"log_snr({t})", schedule.log_snr, t)
        refused(f"log_snr of a vector with {t}", schedule.log_snr, float64(0.5, t))


@check
@torch.no_grad()
def t_min_and_steps_are_numbers(subject: ComponentUnderTest) -> None:
    """The time t_min is in (0, 1] with a finite log-SNR; steps is None or a whole number."""
    schedule: NoiseSchedule = subject.make()
    t_min, steps = schedule.t_min, schedule.steps
    require(
        isinstance(t_min, float) and 0 < t_min <= 1,
        "t_min",
        measured=repr(t_min),
        expected="a float in (0, 1]",
        why="networks and ODEs are asked down to it, and t = 0 is clean data",
    )
    log_snr = schedule.log_snr(t_min)
    require(
        bool(log_snr.isfinite()) or t_min == 1,
        "log_snr(t_min)",
        measured=float(log_snr),
        expected="finite",
    )
    if steps is None:
        return
    whole = isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1
    require(whole, "steps", measured=repr(steps), expected="None, or a whole number from 1")
    require(
        t_min * steps > 1 - 1e-9,
        f"t_min of a schedule of {steps} steps",
        measured=t_min,
        expected=f"at least {1 / steps:.6g}, the first grid time",
        why="a network trained on the grid k / T, k = 1..T, never saw an earlier time",
    )


@check
@torch.no_grad()
def snap_goes_up_to_a_trained_time(subject: ComponentUnderTest) -> None:
    """A snapped time is the nearest trained one at or above t, in (0, 1] and on the grid."""
    schedule: NoiseSchedule = subject.make()
    ends = float64(0.0, 1e-12, 0.5 * schedule.t_min, schedule.t_min, 1 - 1e-6, 1.0)
    t = torch.cat([ends, torch.rand(500, generator=subject.generator("snap"), dtype=torch.float64)])
    snapped = schedule.snap(t)
    plain("snap of a vector", snapped, t.shape)
    low = max(schedule.t_min - 1e-12, 1e-300)
    inside = (snapped >= low) & (snapped <= 1)
    _all("snap", t, snapped, inside, f"from {schedule.t_min:.6g} (t_min) to 1")
    # The grid is missed by rounding, and what is above it by a rounding is on it.
    _all("snap", t, snapped, snapped >= t - 1e-9, "not below t")
    again = schedule.snap(snapped)
    _all("snap of what was snapped", snapped, again, again == snapped, "the same again")
    if schedule.steps is None:
        return
    steps = schedule.steps
    on_grid = (snapped * steps - (snapped * steps).round()).abs() <= 1e-9 * steps
    _all("snap", t, snapped, on_grid, f"k / {steps}")
    nearest = (snapped - t < (1 + 1e-9) / steps) | (snapped <= schedule.t_min)
    _all("snap", t, snapped, nearest, f"less than 1 / {steps} above t")
    grid = half_steps(steps)[1::2]
    grid = grid[grid >= low]
    _all("snap of a grid time", grid, schedule.snap(grid), schedule.snap(grid) == grid, "itself")


def _decreases(schedule: NoiseSchedule, name: str, t: Tensor) -> None:
    inside = t < 1
    log_snr = schedule.log_snr(t)
    require(
        bool(log_snr[inside].isfinite().all()),
        f"log_snr at {int(inside.sum()):,} {name} in (0, 1)",
        measured=f"{int((~log_snr[inside].isfinite()).sum())} that are not finite",
        expected="all finite",
    )
    steps = log_snr.diff()
    worst = int(steps.argmax())
    require(
        bool(steps[worst] < 0),
        f"log_snr from t = {t[worst]:.6g} to the next of {len(t):,} {name}",
        measured=f"a change of {steps[worst]:.3g}",
        expected="a decrease",
        why="a trajectory from t to s < t must lose noise",
    )


def _all(what: str, t: Tensor, result: Tensor, holds: Tensor, expected: str) -> None:
    if not bool(holds.all()):
        first = int((~holds).nonzero()[0])
        require(
            False,
            f"{what}, at t = {float(t[first]):.12g}",
            measured=f"{float(result[first]):.12g}",
            expected=expected,
        )


CHECKS: tuple[Check, ...] = (
    log_snr_strictly_decreases,
    log_snr_at_both_ends,
    log_snr_takes_numbers_and_tensors,
    time_at_inverts,
    time_at_refuses_more_noise_than_there_is,
    times_outside_are_refused,
    t_min_and_steps_are_numbers,
    snap_goes_up_to_a_trained_time,
    *ARITHMETIC_CHECKS,
)
