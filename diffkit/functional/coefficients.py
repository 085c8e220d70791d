"""Host coefficients against device tensors: float64 arithmetic first, one cast last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from typing_extensions import TypeVar

from diffkit.errors import ComponentError

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

Number = float | Tensor
"""A coefficient: one for all samples as a Python number, which costs nothing; else float64, one a
sample or a coordinate."""

Coefficient = TypeVar("Coefficient", covariant=True, default=Tensor)
"""Of records whose fields are float64 tensors, or where it says so `Number`s."""


def as_float(coefficient: Number) -> Number:
    """As a Python number, where it is a single one and no gradient has to reach it."""
    if isinstance(coefficient, float) or coefficient.ndim or coefficient.requires_grad:
        return coefficient
    return float(coefficient)


def as_tensor(x: Number) -> Tensor:
    """As a float64 tensor, or the tensor that it is."""
    return x if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.float64)


def exp(x: Number) -> Number:
    """`e^x`; infinite where it is too large for a number."""
    if isinstance(x, Tensor):
        return torch.exp(x)
    return math.exp(x) if x < 709.0 else math.inf


def expm1(x: Number) -> Number:
    """`e^x - 1`, without cancellation."""
    if isinstance(x, Tensor):
        return torch.expm1(x)
    return math.expm1(x) if x < 709.0 else math.inf


def sqrt(x: Number) -> Number:
    """The root."""
    return torch.sqrt(x) if isinstance(x, Tensor) else math.sqrt(x)


def divide(a: Number, b: Number) -> Number:
    """`a / b`, as floating-point arithmetic has it: by 0 too."""
    if isinstance(b, Tensor) or b != 0.0:
        return a / b
    return a * math.inf * math.copysign(1.0, b)


def log(x: Number) -> Number:
    """The natural logarithm; of 0 it is -inf."""
    if isinstance(x, Tensor):
        return torch.log(x)
    return math.log(x) if x > 0.0 else -math.inf


def full_like(x: Number, value: float) -> Number:
    """The value, in the shape of x."""
    return torch.full_like(x, value) if isinstance(x, Tensor) else value


def broadcast_right(coefficient: Number, like: Shaped[Tensor, "..."]) -> Number:
    """Shape a coefficient so that it multiplies `like` sample by sample.

    One for the whole batch stays the host number that it is: torch passes it to the kernel by
    value, with no copy and no synchronisation. One per sample (`[b]`), or for each of a sample's
    first axes (`[b, n]`: tokens, frames), moves to the device of `like` and is cast once, never
    below float32.

    Raises ComponentError for one of another shape, unless it is one for each coordinate.
    """
    if isinstance(coefficient, float) or coefficient.ndim == 0:
        return coefficient
    shape = coefficient.shape
    if coefficient.ndim < like.ndim:
        coefficient = coefficient.reshape(*shape, *[1] * (like.ndim - coefficient.ndim))
    if not _goes_with(coefficient, like):
        raise wrong_shape(shape, like)
    dtype = torch.promote_types(like.dtype, torch.float32)
    return coefficient.to(device=like.device, dtype=dtype, non_blocking=True)


def _goes_with(coefficient: Tensor, like: Tensor) -> bool:
    """Whether it is one for all or for each, along every axis. Shapes alone are looked at."""
    return coefficient.ndim == like.ndim and all(
        own in (1, size) for own, size in zip(coefficient.shape, like.shape, strict=True)
    )


def wrong_shape(shape: Sequence[int], like: Tensor) -> ComponentError:
    """The error of times, or what was computed from them, that do not go with `like`."""
    return ComponentError(
        f"times of the shape {list(shape)} do not go with samples of the shape {list(like.shape)}: "
        f"a time is one number, or one a sample, {list(like.shape[:1])}, or one for each along its "
        f"first axes, {list(like.shape[:2])}"
    )


def axpby(
    a: Number, x: Float[Tensor, "b *data"], b: Number, y: Float[Tensor, "b *data"]
) -> Float[Tensor, "b *data"]:
    """`a x + b y` in the dtype of `x`, in as few passes over the data as there can be.

    A term whose single coefficient is exactly 0 is dropped, and what is multiplied by exactly 1 is
    not multiplied, so that the result may be `x` or `y` itself.
    """
    a, b = as_float(a), as_float(b)
    if isinstance(a, float) and a == 0.0:
        return _times(b, y).to(x.dtype)
    if isinstance(b, float) and b == 0.0:
        return _times(a, x).to(x.dtype)
    if isinstance(a, float) and isinstance(b, float) and x.dtype == y.dtype:
        # In place of the product, which nobody else has.
        return torch.add(x, y, alpha=b) if a == 1.0 else (x * a).add_(y, alpha=b)
    return (broadcast_right(a, x) * x + broadcast_right(b, y) * y).to(x.dtype)


def _times(a: Number, x: Tensor) -> Tensor:
    return x if isinstance(a, float) and a == 1.0 else broadcast_right(a, x) * x
