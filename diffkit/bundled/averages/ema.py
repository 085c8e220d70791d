"""The exponential moving average."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Lt

from diffkit.core.average import Average
from diffkit.functional.ema import ema_decay


class EMA(Average):
    """`average <- d average + (1 - d) weight` with `d = min(decay, (1 + n) / (10 + n))`.

    The warm-up is that of TensorFlow's ExponentialMovingAverage: the random weights of the
    beginning are forgotten within tens of updates, however close to 1 `decay` is.

    Args:
        decay: the largest d.
    """

    def __init__(self, *, decay: Annotated[float, Ge(0), Lt(1)] = 0.9999) -> None:
        self._decay = decay

    def decay(self, step: int, track: str) -> float:
        """Of update number n = `step`."""
        return ema_decay(step, self._decay)
