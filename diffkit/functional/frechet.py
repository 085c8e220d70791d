"""The Frechet distance between two samples, taken as Gaussian."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Float, Float64


def frechet_distance(
    features_a: Float[Tensor, "n features"], features_b: Float[Tensor, "m features"]
) -> Float64[Tensor, ""]:
    """The squared Frechet distance of the Gaussians with the means and covariances of `a` and `b`.

    `|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))`, Dowson & Landau (1982); Heusel
    et al. (2017), eq. 6. With `C_a = A^T A` and `C_b = B^T B` the last trace is the sum of the
    singular values of `A B^T`. A and B come from QR decompositions of the centred features: no
    covariance and no root of one is ever formed, so singular covariances, and fewer rows than
    features, cost no accuracy. Covariances are the unbiased ones, with `n - 1`. Non-negative,
    symmetric, zero for equal arguments (to rounding).

    Raises:
        DataError: an argument is not a matrix of finite numbers with two rows at least, or the
            numbers of features differ.
    """
    mu_a, root_a = _moments(features_a, "first")
    mu_b, root_b = _moments(features_b, "second")
    if mu_a.shape != mu_b.shape:
        raise DataError(
            f"the Frechet distance is between features of one space, but the first sample has "
            f"{mu_a.shape[0]} and the second {mu_b.shape[0]}; use one embedding for both"
        )
    shift = (mu_a - mu_b).square().sum()
    traces = root_a.square().sum() + root_b.square().sum()
    overlap = torch.linalg.svdvals(root_a @ root_b.T).sum()
    distance: Tensor = shift + (traces - 2.0 * overlap)
    return distance.clamp(min=0.0)


def _moments(features: Tensor, which: str) -> tuple[Tensor, Tensor]:
    """The mean `[features]` and an R `[k, features]` with `R^T R` the covariance, in float64."""
    if features.ndim != 2 or features.shape[0] < 2 or features.shape[1] < 1:
        raise DataError(
            f"the {which} sample of the Frechet distance has the shape {tuple(features.shape)}; "
            "it must be (n, features), n at least 2"
        )
    features = features.detach().to(torch.float64)
    if not bool(features.isfinite().all()):
        raise DataError(
            f"the {which} sample of the Frechet distance has numbers that are not finite"
        )
    mean = features.mean(0)
    root = torch.linalg.qr((features - mean) / math.sqrt(features.shape[0] - 1), mode="r").R
    return mean, root
