"""The predictions that a multistep solver remembers, within one walk."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
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

    def step(self, x_t: Tensor, at_t: Level, at_s: Level) -> Tensor:
        """From t to s along the polynomial in lambda through all that is remembered."""
        start = float(at_t.half)
        h = float(at_s.half) - start
        weights = path_weights([half - start for half in self.halves], h)
        path = weighted(list(self.values), weights)
        return combine(at_s.sigma / at_t.sigma, x_t, at_s.alpha, path)


def asks_twice(times: Sequence[float]) -> bool:
    """Whether a solver that raises its first step by one more call does so on this walk.

    It must have a step with a finite log-SNR at both ends, whatever the schedule: the step to
    s = 0 has none, and the first has none where no signal is left at t = 1.
    """
    return len(times) - 1 - (times[-1] == 0.0) >= 2
