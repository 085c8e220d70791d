"""The weight that makes the output of an EDM network count alike at all noise levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from diffkit.core.weighting import WeightedError, Weighting

if TYPE_CHECKING:
    from jaxtyping import Float64


class EDM(Weighting):
    """`(s^2 + sigma_data^2) / (s sigma_data)^2` on the squared error of `x_0`, `s = sigma/alpha`.

    Karras et al. (2022), table 1, `lambda(sigma)`: the inverse of their `c_out^2`, so that the
    weight on the output is 1 for a network that is preconditioned as theirs are. Since
    `SNR = 1/s^2` it is `SNR + 1/sigma_data^2`.

    Args:
        sigma_data: the standard deviation of the data; theirs are images scaled to 0.5.
    """

    error: ClassVar[WeightedError] = "x_0"

    def __init__(self, *, sigma_data: Annotated[float, Gt(0)] = 0.5) -> None:
        self._sigma_data = sigma_data

    def weight(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """At least `1/sigma_data^2`, which it is where no signal is left."""
        return torch.exp(log_snr) + self._sigma_data**-2
