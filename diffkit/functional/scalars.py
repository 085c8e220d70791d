"""Host coefficients against device tensors: float64 arithmetic first, one cast last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Float64


def expand(
    coefficient: Float64[Tensor, "..."], like: Float[Tensor, "b *data"]
) -> Float[Tensor, "..."]:
    """Shape a coefficient so that it multiplies `like` sample by sample.

    A 0-dimensional coefficient (one time for the whole batch) stays the float64 host number
    that it is: torch passes it to the kernel by value, with no copy and no synchronisation.
    One per sample (`[b]`) moves to the device of `like` and is cast once, never below float32.
    """
    if coefficient.ndim == 0:
        return coefficient
    if coefficient.ndim == 1:
        coefficient = coefficient.reshape(-1, *([1] * (like.ndim - 1)))
    dtype = torch.promote_types(like.dtype, torch.float32)
    return coefficient.to(device=like.device, dtype=dtype, non_blocking=True)


def combine(
    a: Float64[Tensor, "..."],
    x: Float[Tensor, "b *data"],
    b: Float64[Tensor, "..."],
    y: Float[Tensor, "b *data"],
) -> Float[Tensor, "b *data"]:
    """`a x + b y` in the dtype of `x`; a term whose single coefficient is exactly 0 is dropped."""
    if _is_zero(a):
        return (expand(b, y) * y).to(x.dtype)
    if _is_zero(b):
        return (expand(a, x) * x).to(x.dtype)
    return (expand(a, x) * x + expand(b, y) * y).to(x.dtype)


def _is_zero(coefficient: Tensor) -> bool:
    return coefficient.ndim == 0 and not coefficient.requires_grad and float(coefficient) == 0.0
