"""High signal counts for no more than a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from diffkit.core.weighting import WeightedError, Weighting

if TYPE_CHECKING:
    from jaxtyping import Float64


class MinSNR(Weighting):
    """`min(SNR, gamma)` on the squared error of `x_0`, which is `min(1, gamma/SNR)` on epsilon's.

    Hang et al. (2023), section 3.4. On the output of a network that predicts velocity it comes to
    `min(SNR, gamma)/(SNR + 1)`, of one that predicts `x_0` to `min(SNR, gamma)`.

    Args:
        gamma: the SNR above which the weight of `x_0` grows no more. The paper takes 5.
    """

    error: ClassVar[WeightedError] = "epsilon"

    def __init__(self, *, gamma: Annotated[float, Gt(0)] = 5.0) -> None:
        self._gamma = gamma

    def weight(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """In (0, 1]; 1 where no signal is left."""
        return (self._gamma * torch.exp(-log_snr)).clamp(max=1.0)
