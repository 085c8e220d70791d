"""The schedule of EDM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from diffkit.core.schedule import NoiseSchedule, Time, as_time
from diffkit.errors import ComponentError

if TYPE_CHECKING:
    from jaxtyping import Float64

_T_MIN = 1e-4


class Karras(NoiseSchedule):
    """Noise over signal `s(t) = (s_min^(1/rho) + t (s_max^(1/rho) - s_min^(1/rho)))^rho`.

    Karras et al. (2022), eq. 5, as a schedule: `log_snr(t) = -2 log s(t)`. On the process
    `variance-exploding` s is sigma. As t falls to 0, s falls to `sigma_min`; t = 0 itself is clean
    data. Their grid is even in t from 1 to the smallest time, and then 0: the spacing
    `samplers.karras` with this rho, but for a few per mille of `sigma_min`. Even steps from 1 to 0,
    as of the spacing `trailing`, leave out its last: their smallest s is that at `t = 1/S`.

    Args:
        sigma_min: s as t falls to 0.
        sigma_max: s at t = 1.
        rho: how much denser even steps are at low noise; 1 spaces s evenly.

    Raises:
        ComponentError: sigma_max is not above sigma_min.
    """

    def __init__(
        self,
        *,
        sigma_min: Annotated[float, Gt(0)] = 0.002,
        sigma_max: Annotated[float, Gt(0)] = 80.0,
        rho: Annotated[float, Ge(1)] = 7.0,
    ) -> None:
        if not sigma_min < sigma_max:
            raise ComponentError(
                f"karras: sigma_max = {sigma_max} must be above sigma_min = {sigma_min}"
            )
        self._rho = rho
        self._first, self._last = sigma_min ** (1.0 / rho), sigma_max ** (1.0 / rho)

    @property
    def t_min(self) -> float:
        """A ten-thousandth, where the noise is `sigma_min` but for a few per mille."""
        return _T_MIN

    def log_snr(self, t: Time) -> Float64[Tensor, "..."]:
        """`-2 log s(t)`; +inf at t = 0."""
        t = as_time(t)
        root = self._first + t * (self._last - self._first)
        return torch.where(t == 0, torch.inf, -2.0 * self._rho * torch.log(root))

    def time_at(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Its inverse. Raises ComponentError outside [log_snr(1), log_snr(0+)]."""
        log_snr = log_snr.double()
        root = torch.exp(-0.5 * log_snr / self._rho)
        t = (root - self._first) / (self._last - self._first)
        t = torch.where(torch.isposinf(log_snr), 0.0, t)
        # What rounding carries over the edge is the edge.
        if not bool(((t >= -1e-12) & (t <= 1 + 1e-12)).all()):
            low, high = (float(end) for end in log_snr.aminmax())
            raise ComponentError(
                f"karras: its noise over signal goes from {self._first**self._rho:.6g} to "
                f"{self._last**self._rho:.6g}, and log-SNRs of {low:.6g} to {high:.6g} were asked "
                "for; set sigma_min and sigma_max so that they lie within"
            )
        return t.clamp(0.0, 1.0)
