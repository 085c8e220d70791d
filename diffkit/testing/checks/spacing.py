"""The laws of spacings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch

from diffkit.bundled.schedules.linear import Linear
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.spacing import Spacing
from diffkit.errors import ComponentError
from diffkit.testing.check import Check, check
from diffkit.testing.checks.common import ZeroTerminalSNR, accepted, refused
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require
from diffkit.testing.reference import UniformLogSNR

_STEPS = (1, 2, 3, 7, 10, 50)
_MUST = 10
"""The number of steps that no spacing may refuse; others it may, where they are impossible."""


class _Spaced(NamedTuple):
    name: str
    steps: int
    schedule: NoiseSchedule
    times: tuple[float, ...]


def _schedules(subject: ComponentUnderTest) -> Iterator[tuple[str, NoiseSchedule]]:
    return accepted(
        subject,
        {
            "a grid of 1000": Linear(),
            "a grid of 50": Linear(steps=50),
            "a continuous schedule": UniformLogSNR(),
            "a schedule with zero terminal SNR": ZeroTerminalSNR(),
        },
    )


def _spacings(subject: ComponentUnderTest) -> Iterator[_Spaced]:
    spacing: Spacing = subject.make()
    for where, schedule in _schedules(subject):
        grid = schedule.steps
        # One step more than the grid has is often refused; if not, it must be right too.
        for steps in (*_STEPS, *((grid, grid + 1) if grid is not None else (1000,))):
            times = _times(spacing, steps, schedule)
            if times is not None:
                yield _Spaced(f"{steps} steps on {where}", steps, schedule, times)


def _times(spacing: Spacing, steps: int, schedule: NoiseSchedule) -> tuple[float, ...] | None:
    try:
        return spacing.times(steps, schedule)
    except ComponentError:
        if steps == _MUST:
            raise
        return None


@check
def times_are_host_numbers(subject: ComponentUnderTest) -> None:
    """Times are a tuple of Python floats in [0, 1]."""
    for spaced in _spacings(subject):
        kinds = sorted({type(spaced.times).__name__, *(type(t).__name__ for t in spaced.times)})
        require(
            kinds == ["float", "tuple"],
            f"the times of {spaced.name}",
            measured=" and ".join(kinds),
            expected="a tuple of float",
            why="samplers compare and look up their times; tensors would stop the device for it",
        )
        low, high = min(spaced.times), max(spaced.times)
        require(
            low >= 0.0 and high <= 1.0,
            f"the times of {spaced.name}",
            measured=f"from {low} to {high}",
            expected="from 0 to 1",
        )


@check
def times_strictly_decrease_to_zero(subject: ComponentUnderTest) -> None:
    """Times decrease strictly, and the last one is exactly 0."""
    for spaced in _spacings(subject):
        for i, (t, s) in enumerate(pairwise(spaced.times)):
            require(
                t > s,
                f"times {i} and {i + 1} of {spaced.name}",
                measured=f"{float(t)!r}, {float(s)!r}",
                expected="a decrease",
                why="each step must lose noise: one that stands still divides by 0",
            )
        last = float(spaced.times[-1])
        require(
            last == 0.0,
            f"the last time of {spaced.name}",
            measured=last,
            expected="0",
            why="a trajectory that stops earlier leaves noise in its samples",
        )


@check
def there_are_as_many_steps_as_asked(subject: ComponentUnderTest) -> None:
    """A trajectory of S steps has S + 1 times."""
    for spaced in _spacings(subject):
        require(
            len(spaced.times) == spaced.steps + 1,
            f"the number of times of {spaced.name}",
            measured=len(spaced.times),
            expected=spaced.steps + 1,
            why="the steps are what the user pays for; what cannot be had is a ComponentError",
        )


@check
def times_start_at_one(subject: ComponentUnderTest) -> None:
    """The first time is 1, where the prior is, unless the class declares otherwise."""
    assert issubclass(subject.cls, Spacing)
    if not subject.cls.starts_at_one:
        raise NotApplicable("the class declares starts_at_one = False")
    for spaced in _spacings(subject):
        require(
            spaced.times[0] == 1.0,
            f"the first time of {spaced.name}",
            measured=repr(spaced.times[0]),
            expected="1.0",
            why="a trajectory starts from the prior, which is the end of the process (Lin et al., "
            "2024, section 3.3); a class may declare starts_at_one = False",
        )


@check
def noise_levels_on_the_way_are_trained(subject: ComponentUnderTest) -> None:
    """The last time above 0 is not below t_min, and inner times have a finite log-SNR."""
    for spaced in _spacings(subject):
        positive = [float(t) for t in spaced.times if t > 0]
        least = spaced.schedule.t_min
        require(
            bool(positive) and min(positive) >= least * (1 - 1e-9),
            f"the smallest time above 0 of {spaced.name}",
            measured=min(positive, default=None),
            expected=f"at least t_min = {least:.6g}",
            why="the network was never asked about less noise",
        )
        inner = torch.tensor([t for t in positive if t < 1], dtype=torch.float64)
        log_snr = spaced.schedule.log_snr(inner)
        unfit = int((~log_snr.isfinite()).sum())
        require(
            unfit == 0, f"log-SNRs of {spaced.name}", measured=f"{unfit} not finite", expected=0
        )


@check
def impossible_steps_are_refused(subject: ComponentUnderTest) -> None:
    """Fewer than one step is a ComponentError."""
    spacing: Spacing = subject.make()
    for where, schedule in _schedules(subject):
        for steps in (0, -1):
            refused(f"a trajectory of {steps} steps on {where}", spacing.times, steps, schedule)


CHECKS: tuple[Check, ...] = (
    times_are_host_numbers,
    times_strictly_decrease_to_zero,
    there_are_as_many_steps_as_asked,
    times_start_at_one,
    noise_levels_on_the_way_are_trained,
    impossible_steps_are_refused,
)
