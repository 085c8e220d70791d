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


def sigmoid_betas(
    steps: int, first: float, last: float, largest: float
) -> Float64[Tensor, " steps"]:
    """`beta_k = 1 - f(k/T)/f((k-1)/T)`, `f(t) = sigmoid(last) - sigmoid(first + t (last - first))`.

    Clipped at `largest`. Chen (2023), section 2.1. `f` is written as a product, so that it keeps
    its digits near t = 1, where the sigmoids are nearly equal.
    """
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    x = first + t * (last - first)
    # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^(a - b)); sigmoid(b) cancels.
    f = torch.sigmoid(-x) * -torch.expm1(-(1.0 - t) * (last - first))
    return (1 - f[1:] / f[:-1]).clamp(max=largest)


def zero_terminal_betas(alpha_bar: Float64[Tensor, " steps"]) -> Float64[Tensor, " steps"]:
    """The betas whose `sqrt(alpha_bar)` is moved to 0 at the last step and kept at the first.

    `a'_k = (a_k - a_T) a_1/(a_1 - a_T)` with `a = sqrt(alpha_bar)`: Lin et al. (2024), "Common
    diffusion noise schedules and sample steps are flawed", Algorithm 1. The last beta is exactly 1;
    so is the only one of a single step, whose signal cannot be kept as well.
    """
    if len(alpha_bar) == 1:
        return torch.ones_like(alpha_bar)
    a = alpha_bar.sqrt()
    moved = (a - a[-1]) * (a[0] / (a[0] - a[-1]))
    kept = torch.cat([moved[:1], moved[1:] / moved[:-1]]).square()
    kept[0] = alpha_bar[0]
    return 1 - kept
