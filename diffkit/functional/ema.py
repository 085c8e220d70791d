"""Exponential moving averages of weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def ema_decay(update: int, decay: float) -> float:
    """`min(decay, (1 + n) / (10 + n))` for the n-th update, counted from 0.

    The warm-up of TensorFlow's ExponentialMovingAverage: the average forgets the random
    initial weights within tens of steps, however close to 1 `decay` is.
    """
    return min(decay, (1 + update) / (10 + update))


@torch.no_grad()
def ema_update(averages: Sequence[Tensor], weights: Sequence[Tensor], decay: float) -> None:
    """`average <- decay * average + (1 - decay) * weight`, in place, all tensors in one call."""
    torch._foreach_lerp_(list(averages), list(weights), 1.0 - decay)
