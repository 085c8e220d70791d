"""The same learning rate always."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt

from diffkit.core.learning_rate import LearningRate


class Constant(LearningRate):
    """`rate` at every update.

    Args:
        rate: the learning rate.
    """

    def __init__(self, *, rate: Annotated[float, Gt(0)] = 2e-4) -> None:
        self._rate = rate

    def rate(self, step: int, steps: int) -> float:
        """The same for all."""
        return self._rate
