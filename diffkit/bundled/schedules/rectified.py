"""The schedule of rectified flow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from diffkit.core.schedule import NoiseSchedule, Time, as_time

if TYPE_CHECKING:
    from jaxtyping import Float64

_T_MIN = 1e-3


class Rectified(NoiseSchedule):
    """`log_snr(t) = 2 log((1 - t)/t) - 2 log(shift)`: on the process `rectified-flow`, sigma is t.

    Liu et al. (2023), "Flow straight and fast", eq. 1. A shift above 1 spends more of the time at
    high noise, as larger images need: `sigma = shift t/(1 + (shift - 1) t)`, Esser et al. (2024),
    eq. 23. No signal is left at t = 1 (zero terminal SNR).

    Args:
        shift: above 0; 1 leaves t as it is.
    """

    def __init__(self, *, shift: Annotated[float, Gt(0)] = 1.0) -> None:
        self._log_shift = math.log(shift)

    @property
    def t_min(self) -> float:
        """A thousandth."""
        return _T_MIN

    def log_snr(self, t: Time) -> Float64[Tensor, "..."]:
        """The formula; +inf at t = 0, -inf at t = 1."""
        t = as_time(t)
        return 2.0 * (torch.log1p(-t) - torch.log(t) - self._log_shift)

    def time_at(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Its inverse, defined everywhere."""
        return torch.sigmoid(-0.5 * log_snr.double() - self._log_shift)
