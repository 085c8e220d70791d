"""The probability flow in a variable that is bounded at every noise level."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from diffkit.core.gaussian_sampler import GaussianPredictor
from diffkit.core.process import GaussianProcess
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import broadcast_right

if TYPE_CHECKING:
    from jaxtyping import Float, Float64


LONGEST = 2.0
"""The longest step, in log-SNR. Where there is hardly any signal the slope is nearly 0, steps
grow, and one could leap over the noise levels at which the data are decided."""


@final
class Flow:
    """`du/dl = a/2 (D(x) - a u)`, `u = x / sqrt(alpha^2 + sigma^2)`, l the log-SNR.

    `a^2 = sigmoid(l)`, so u is the sample of the variance-preserving process at the same l,
    whatever the process; nothing is divided by alpha or sigma. Song et al. (2021), SDE,
    eq. 13, in these variables. D is never clipped: the flow has to be smooth and invertible.

    Args:
        ask: the predictor of a process with one noise level for all coordinates.
        first: the noisiest time that may be asked.
        last: the cleanest.
        dtype: what the predictor is asked in; u may be wider.
    """

    def __init__(
        self, ask: GaussianPredictor, first: float, last: float, dtype: torch.dtype
    ) -> None:
        self.ask, self._first, self._last, self._dtype = ask, first, last, dtype

    def time(self, log_snr: Float64[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """The times with these log-SNRs, which rounding cannot bring out of the range."""
        return self.ask.process.schedule.time_at(log_snr).clamp(self._last, self._first)

    def inwards(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """The u of x."""
        return x / broadcast_right(scale(self.ask.process, log_snr), x)

    def outwards(self, u: Tensor, log_snr: Tensor) -> Tensor:
        """The x of u."""
        return u * broadcast_right(scale(self.ask.process, log_snr), u)

    def slope(self, log_snr: Float64[Tensor, " b"], u: Float[Tensor, "b *data"]) -> Tensor:
        """`du/dl`, each sample at its own log-SNR."""
        x = self.outwards(u, log_snr).to(self._dtype)
        x_0 = self.ask(x, self.time(log_snr)).unclipped.x_0.to(u.dtype)
        a = broadcast_right(torch.sigmoid(log_snr).sqrt(), u)
        return 0.5 * a * (x_0 - a * u)


def scale(process: GaussianProcess, log_snr: Tensor) -> Float64[Tensor, "..."]:
    """`sqrt(alpha^2 + sigma^2)` at this log-SNR."""
    scales = process.scales(log_snr)
    return torch.hypot(scales.alpha, scales.sigma)


def noisiest(
    name: str, process: GaussianProcess, t: float, tolerance: float
) -> tuple[float, float]:
    """The time and the log-SNR at which to begin, or end, an integration that is meant for t.

    t itself where its log-SNR is finite. Without signal at t, the time at which `alpha/sigma` is
    the tolerance: a step of first order between the two misses the square of it.
    """
    log_snr = process.log_snr(t)
    if log_snr.ndim:
        raise ComponentError(
            f"{name}: it needs one noise level for all coordinates, and the process has one for "
            "each; use 'samplers.ddim' or 'samplers.dpmpp-2m'"
        )
    if bool(torch.isfinite(log_snr)):
        return t, float(log_snr)
    near = 2.0 * math.log(tolerance)
    found = process.schedule.time_at(torch.tensor(near, dtype=torch.float64))
    return float(found), near
