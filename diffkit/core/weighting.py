"""Weighting: how much each noise level counts in a loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from diffkit.core.component import Component

if TYPE_CHECKING:
    from jaxtyping import Float64


class Weighting(Component):
    """A weight as a function of the log-SNR."""

    kind: ClassVar[str] = "weighting"

    @abstractmethod
    def weight(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """The weight, at least 0, in the shape of `log_snr`."""


class Unweighted(Weighting):
    """Weight 1 everywhere: the "simple" loss of Ho et al. (2020), eq. 14."""

    def weight(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Ones."""
        return torch.ones_like(log_snr)
