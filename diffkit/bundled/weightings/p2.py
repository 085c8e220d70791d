"""Low noise counts for less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from diffkit.core.weighting import WeightedError, Weighting

if TYPE_CHECKING:
    from jaxtyping import Float64


class P2(Weighting):
    """`1 / (k + SNR)^gamma` on the squared error of epsilon.

    Choi et al. (2022), "Perception prioritized training of diffusion models", eq. 8, where
    `lambda_t` is the weight that makes the bound the simple loss.

    Args:
        gamma: how strongly low noise is held back; 0 leaves the simple loss. The paper takes 1,
            or 0.5.
        k: what bounds the weight at low SNR, by `k^-gamma`. The paper takes 1.
    """

    error: ClassVar[WeightedError] = "epsilon"

    def __init__(
        self, *, gamma: Annotated[float, Ge(0)] = 1.0, k: Annotated[float, Gt(0)] = 1.0
    ) -> None:
        self._gamma, self._k = gamma, k

    def weight(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """In (0, k^-gamma]."""
        return (self._k + torch.exp(log_snr)) ** -self._gamma
