"""What the constructors refuse, and how the samplers here ask a denoiser."""

from __future__ import annotations

import math

from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import GaussianProcess
from diffkit.errors import ComponentError


def between(name: str, field: str, value: float, low: float, high: float = math.inf) -> float:
    """The argument, finite, above `low` and at most `high`. Raises ComponentError elsewhere."""
    if not (math.isfinite(value) and low < value <= high):
        limit = f"above {low:g}" if high == math.inf else f"in ({low:g}, {high:g}]"
        raise ComponentError(f"{name}: {field} = {value!r} is not allowed; it must be {limit}")
    return value


def count(name: str, field: str, value: int) -> int:
    """The argument, at least 1. Raises ComponentError elsewhere."""
    if value < 1:
        raise ComponentError(f"{name}: {field} = {value!r} is not allowed; it must be at least 1")
    return value


def gaussian(name: str, denoiser: Denoiser) -> GaussianProcess:
    """The denoiser's process. Raises ComponentError where it is not Gaussian."""
    process = denoiser.process
    if not isinstance(process, GaussianProcess):
        raise ComponentError(
            f"{name}: it samples from Gaussian processes, and {type(process).__name__} is not one"
        )
    return process


def predicted(name: str, denoiser: Denoiser, x_t: Tensor, t: float) -> GaussianPrediction:
    """The prediction at `x_t`. Raises ComponentError where it is not Gaussian."""
    prediction = denoiser(x_t, t)
    if not isinstance(prediction, GaussianPrediction):
        raise ComponentError(f"{name}: the denoiser gives no Gaussian prediction")
    return prediction


def fitting(name: str, field: str, value: Tensor, like: Tensor) -> Tensor:
    """An input in the dtype of `like`, that broadcasts to its shape. Raises ComponentError."""
    fits = value.ndim == like.ndim and all(
        a in (1, b) for a, b in zip(value.shape, like.shape, strict=True)
    )
    if not fits:
        raise ComponentError(
            f"{name}: the input '{field}' has the shape {list(value.shape)}, which does not fit "
            f"samples of {list(like.shape)}; give one of that shape, or 1 where it is the same "
            "for all"
        )
    return value.to(like.dtype)
