"""Mistakes of spacings."""

from __future__ import annotations

import numpy as np
import torch

from diffkit.bundled.spacings.leading import Leading
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.spacing import Spacing
from diffkit.errors import ComponentError

from .mutant import Mutant


def checked(steps):
    if steps < 1:
        raise ComponentError(f"steps must be at least 1, not {steps}")
    return steps


class Shifted(Spacing):
    """A right one: even in t raised to a power, never below t_min."""

    def times(self, steps, schedule):
        last = schedule.t_min
        even = (1 - i / steps for i in range(checked(steps)))
        return (*(last + (1 - last) * part**2 for part in even), 0.0)


class NeverVisitsOne(Leading):
    starts_at_one = True


class IndexOffByOne(Spacing):
    def times(self, steps, schedule):
        grid = schedule.steps or 1000
        return (*(round(grid - i * grid / steps - 1) / grid for i in range(checked(steps))), 0.0)


class EvenFromZero(Spacing):
    def times(self, steps, schedule):
        grid = schedule.steps or 1000
        indices = np.linspace(0, grid - 1, checked(steps)).round()[::-1]
        return (*(float(k / grid) for k in indices), 0.0)


class WholeStrides(Spacing):
    starts_at_one = False

    def times(self, steps, schedule):
        grid = schedule.steps or 1000
        if steps > grid:
            raise ComponentError(f"steps must be at most {grid}, not {steps}")
        indices = range(1, grid + 1, grid // checked(steps))
        return (*(k / grid for k in reversed(indices)), 0.0)


class PastTheEnd(Trailing):
    def times(self, steps, schedule):
        first, *rest = super().times(steps, schedule)
        return (first + 1 / (schedule.steps or 1000), *rest)


class RoundsTogether(Spacing):
    def times(self, steps, schedule):
        grid = schedule.steps or 1000
        even = (1 - i / steps for i in range(checked(steps)))
        return (*(max(round(grid * t**2), 1) / grid for t in even), 0.0)


class StopsEarly(Trailing):
    def times(self, steps, schedule):
        return (*super().times(steps, schedule)[:-1], 0.5 * schedule.t_min)


class Ascending(Trailing):
    def times(self, steps, schedule):
        return super().times(steps, schedule)[::-1]


class WithoutZero(Trailing):
    def times(self, steps, schedule):
        return super().times(steps, schedule)[:-1]


class OneStepMore(Trailing):
    def times(self, steps, schedule):
        *times, last = super().times(steps, schedule)
        return (*times, max(times[-1] / 2, schedule.t_min) - 1e-12, last)


class GivesTensors(Trailing):
    def times(self, steps, schedule):
        return tuple(torch.tensor(super().times(steps, schedule), dtype=torch.float64))


class GivesNumpy(Trailing):
    def times(self, steps, schedule):
        return tuple(np.array(super().times(steps, schedule)))


class BelowTheFirst(Spacing):
    def times(self, steps, schedule):
        return (*(1e-6 ** (i / steps) for i in range(checked(steps))), 0.0)


class EvenFromMinusInfinity(Spacing):
    def times(self, steps, schedule):
        if checked(steps) == 1:
            return (1.0, 0.0)
        ends = schedule.log_snr(1.0), schedule.log_snr(schedule.t_min)
        share = torch.linspace(0, 1, steps, dtype=torch.float64)
        _, *inner = schedule.time_at(torch.lerp(*ends, share).clamp(*ends)).tolist()
        return (1.0, *inner, 0.0)


class TakesNoSteps(Trailing):
    def times(self, steps, schedule):
        return super().times(max(steps, 1), schedule)


class RaisesValueError(Trailing):
    def times(self, steps, schedule):
        if steps < 1:
            raise ValueError(steps)
        return super().times(steps, schedule)


RIGHT = (Shifted, Trailing, Leading)
MUTANTS = (
    Mutant(NeverVisitsOne, "declared to start at t = 1, which it never visits"),
    Mutant(IndexOffByOne, "indices from 0 to T - 1 for 1 to T"),
    Mutant(EvenFromZero, "even from index 0: no first time, and t = 0 twice"),
    Mutant(WholeStrides, "a whole stride, which gives more steps than asked for"),
    Mutant(PastTheEnd, "the first time is past 1"),
    Mutant(RoundsTogether, "neighbouring times are rounded to one"),
    Mutant(StopsEarly, "the trajectory stops before t = 0"),
    Mutant(Ascending, "times in ascending order"),
    Mutant(WithoutZero, "the last time, 0, is left out"),
    Mutant(OneStepMore, "one step more than asked for"),
    Mutant(GivesTensors, "times are tensors"),
    Mutant(GivesNumpy, "times are numpy's numbers"),
    Mutant(BelowTheFirst, "times below the smallest that was trained"),
    Mutant(EvenFromMinusInfinity, "even in log-SNR, from -inf with zero terminal SNR"),
    Mutant(TakesNoSteps, "0 steps are taken as 1"),
    Mutant(RaisesValueError, "a user's mistake is a ValueError"),
)
