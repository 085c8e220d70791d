"""A learning rate that falls evenly."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from diffkit.core.learning_rate import LearningRate


class LinearDecay(LearningRate):
    """`final + (rate - final) (1 - n/N)` at update n of N.

    Args:
        rate: at the beginning.
        final: what it falls to.
    """

    def __init__(
        self, *, rate: Annotated[float, Gt(0)] = 2e-4, final: Annotated[float, Ge(0)] = 0.0
    ) -> None:
        self._rate, self._final = rate, final

    def rate(self, step: int, steps: int) -> float:
        """From `rate` at update 0."""
        return self._final + (self._rate - self._final) * (1.0 - step / steps)
