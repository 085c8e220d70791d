"""Log-likelihoods and divergences of Gaussians, a coordinate at a time and in nats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def gaussian_log_density(
    x: Float[Tensor, "..."], mean: Float[Tensor, "..."], log_variance: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """`log N(x; mean, exp(log_variance))`."""
    square = (x - mean).square() * torch.exp(-log_variance)
    return -0.5 * (square + log_variance + math.log(2.0 * math.pi))


def discretized_gaussian_log_probability(
    x: Float[Tensor, "..."],
    mean: Float[Tensor, "..."],
    log_variance: Float[Tensor, "..."],
    low: float,
    high: float,
    levels: int,
) -> Float[Tensor, "..."]:
    """The log-probability that a Gaussian gives to the bin around `x`. Ho et al. (2020), eq. 13.

    Data takes `levels` values, evenly spaced from `low` to `high`. Each has the bin that reaches
    half-way to its neighbours; the outermost bins reach to infinity, so that the probabilities of
    all levels add up to 1. Differences of the normal distribution function are taken of its
    logarithm in the lower tail, where they keep their digits; in float64, since neighbouring bins
    far out differ by less than float32 can tell. The result has the dtype of `x`.
    """
    dtype, x = x.dtype, x.double()
    mean, log_variance = mean.double(), log_variance.double()
    half = 0.5 * (high - low) / (levels - 1)
    scale = torch.exp(-0.5 * log_variance)
    above, below = (x + half - mean) * scale, (x - half - mean) * scale
    above = torch.where(x > high - half, torch.full_like(above, math.inf), above)
    below = torch.where(x < low + half, torch.full_like(below, -math.inf), below)
    # By symmetry a bin in the upper tail is as likely as its mirror image in the lower.
    mirrored = above + below > 0
    upper = torch.where(mirrored, -below, above)
    lower = torch.where(mirrored, -above, below)
    log_upper: Tensor = torch.special.log_ndtr(upper)
    log_lower: Tensor = torch.special.log_ndtr(lower)
    return (log_upper + _log_one_minus_exp(log_lower - log_upper)).to(dtype)


def _log_one_minus_exp(x: Tensor) -> Tensor:
    """`log(1 - e^x)` for x < 0, without cancellation at either end.

    Each branch sees arguments of its own region alone, so that neither spoils the other's gradient.
    """
    small = x > -math.log(2.0)
    near = torch.where(small, x, torch.full_like(x, -1.0))
    far = torch.where(small, torch.full_like(x, -1.0), x)
    found: Tensor = torch.where(small, torch.log(-torch.expm1(near)), torch.log1p(-torch.exp(far)))
    return found
