"""The betas of discrete schedules; the only place where DDPM's beta lives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float64


def linear_betas(steps: int, first: float, last: float) -> Float64[Tensor, " steps"]:
    """`beta_k` evenly spaced from `first` to `last`. Ho et al. (2020), section 4."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def cosine_betas(steps: int, offset: float, largest: float) -> Float64[Tensor, " steps"]:
    """`beta_k = 1 - f(k/T)/f((k-1)/T)`, `f(t) = cos^2((t + offset)/(1 + offset) pi/2)`.

    Clipped at `largest`. Nichol & Dhariwal (2021), eq. 17 and the text below it.
    """
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((t + offset) / (1 + offset) * math.pi / 2).square()
    return (1 - f[1:] / f[:-1]).clamp(max=largest)
