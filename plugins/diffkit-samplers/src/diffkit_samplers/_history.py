"""The predictions that a multistep solver remembers, within one walk."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import final

from torch import Tensor

from diffkit.core.process import Level
from diffkit.functional.scalars import combine
from diffkit_samplers._levels import path_weights, weighted


@final
class History:
    """The last few predictions of `x_0` and their lambdas, the newest first."""

    def __init__(self, size: int) -> None:
        self.halves: deque[float] = deque(maxlen=size)
        self.values: deque[Tensor] = deque(maxlen=size)

    def add(self, half: float, x_0: Tensor) -> None:
        """Remember a prediction, and forget the oldest where there are too many."""
        self.halves.appendleft(half)
        self.values.appendleft(x_0)

    def keep(self, most: int) -> None:
        """Forget all but the newest few."""
        while len(self.halves) > most:
            self.halves.pop()
            self.values.pop()

    def step(self, x_t: Tensor, at_t: Level, at_s: Level) -> Tensor:
        """From t to s along the polynomial in lambda through all that is remembered.

        Along the line through two, its middle stands for all of the step, as in `dpmpp-2m`, of the
        same order: over long steps its end would weigh most, where it is extrapolated farthest.
        """
        start = float(at_t.half)
        h = float(at_s.half) - start
        if len(self.halves) == 2:
            share, whole = 0.5 * h / (self.halves[0] - self.halves[1]), -math.expm1(-h)
            weights = [whole * (1.0 + share), -whole * share]
        else:
            weights = path_weights([half - start for half in self.halves], h)
        path = weighted(list(self.values), weights)
        return combine(at_s.sigma / at_t.sigma, x_t, at_s.alpha, path)


LONG = 1.0
"""A step in lambda beyond which earlier predictions say little of those at its end."""
MUCH_LONGER = 2.0
"""How many times the length of the step before."""


def orders(levels: Sequence[Level], highest: int) -> list[int]:
    """The order of each step of a walk over these noise levels, `highest` at most.

    Of high order a polynomial is extrapolated, and multiplies what is wrong or small in the
    predictions, the more the farther it goes beyond them. So long steps are of second order at
    most; and in a walk to s = 0 the order is lowered at the end, as in the code of Lu et al.
    (2022), DPM-Solver++, and Zhao et al. (2023), UniPC (`lower_order_final`): to 2 in the last step
    between finite noise levels. Where that is much longer than the one before, as on the spacing
    `leading`, it is of first order, and the one before of second.
    """
    halves = [float(level.half) for level in levels]
    lengths = [after - before for before, after in pairwise(halves)]
    found = [min(highest, 2) if length > LONG else highest for length in lengths]
    if levels[-1].t == 0.0 and len(lengths) > 1:
        last = len(lengths) - 2
        leaps = last > 0 and lengths[last] > MUCH_LONGER * lengths[last - 1]
        found[last] = min(found[last], 1 if leaps else 2)
        if leaps:
            found[last - 1] = min(found[last - 1], 2)
    return found


def asks_twice(times: Sequence[float]) -> bool:
    """Whether a solver that raises its first step by one more call does so on this walk.

    It must have a step with a finite log-SNR at both ends, whatever the schedule: the step to
    s = 0 has none, and the first has none where no signal is left at t = 1.
    """
    return len(times) - 1 - (times[-1] == 0.0) >= 2
