"""A learning rate that falls like half a cosine."""

from __future__ import annotations

import math
from typing import Annotated

from annotated_types import Ge, Gt

from diffkit.core.learning_rate import LearningRate


class CosineDecay(LearningRate):
    """`final + (rate - final) (1 + cos(pi n/N)) / 2` at update n of N.

    Loshchilov & Hutter (2017), "SGDR", eq. 5, without restarts.

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
        share = 0.5 * (1.0 + math.cos(math.pi * step / steps))
        return self._final + (self._rate - self._final) * share
