"""NoiseSchedule: how much noise there is at each time."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor

from diffkit.core.component import Component
from diffkit.errors import ComponentError

if TYPE_CHECKING:
    from jaxtyping import Float64

Time = float | Tensor
"""A time in [0, 1]: a host number for a whole batch, or a float64 tensor `[b]`, one a sample.

Of samples `[b, n, ...]` it may be `[b, n]`, a time for each along their first axes: tokens, frames.
"""


def as_time(t: Time) -> Float64[Tensor, "..."]:
    """`t` as a float64 tensor; an error where it leaves [0, 1] (looked at on the host only)."""
    if not isinstance(t, Tensor):
        if not 0.0 <= t <= 1.0:
            raise ComponentError(f"a time must be in [0, 1] (0 is data, 1 is noise), not {t}")
        return torch.tensor(t, dtype=torch.float64)
    t = t.to(torch.float64)
    if t.device.type == "cpu" and t.numel():
        low, high = (float(end) for end in t.detach().aminmax())
        if not (low >= 0.0 and high <= 1.0):
            raise ComponentError(
                f"times must be in [0, 1] (0 is data, 1 is noise), not {low}..{high}"
            )
    return t


class NoiseSchedule(Component):
    """The log-SNR over time: `log_snr(t) = log(alpha_t^2 / sigma_t^2)`, finite and strictly
    decreasing on (0, 1), with `log_snr(0) = +inf` (t = 0 is clean data).

    Kingma et al. (2021), section 3. Times and log-SNRs are float64, and live on the host.
    """

    kind: ClassVar[str] = "schedule"

    @property
    def steps(self) -> int | None:
        """T of a discrete schedule, which lives on the grid `k / T`; None if continuous."""
        return None

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The smallest time at which a network or an ODE may be asked."""

    @abstractmethod
    def log_snr(self, t: Time) -> Float64[Tensor, "..."]:
        """The log-SNR at `t`, in the shape of `t`. Raises ComponentError outside [0, 1]."""

    @abstractmethod
    def time_at(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """The time with this log-SNR. Raises ComponentError outside the schedule's range."""

    def snap(self, t: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """The time nearest above `t` in (0, 1] that a network is trained at."""
        return t.clamp(min=self.t_min)


class DiscreteSchedule(NoiseSchedule):
    """A schedule given by its betas on the grid `k / T`, k = 1..T.

    `alpha_bar_k = prod_{j <= k} (1 - beta_j)` (Ho et al., 2020, eq. 4) and
    `log_snr(k / T) = log(alpha_bar_k / (1 - alpha_bar_k))`. Between grid points `alpha_bar` and
    `1 - alpha_bar` are interpolated linearly. A subclass gives `betas`.
    """

    @property
    @abstractmethod
    def betas(self) -> Float64[Tensor, " steps"]:
        """`beta_k` for k = 1..T, each in (0, 1); the last may be 1, which leaves no signal."""

    @property
    def steps(self) -> int:
        return self._table.log_snr.numel() - 1

    @property
    def t_min(self) -> float:
        return 1.0 / self.steps

    @cached_property
    def _table(self) -> _Table:
        betas = self.betas
        if not isinstance(betas, Tensor):
            raise ComponentError(
                f"{type(self).__name__}: betas must be a float64 tensor, one number a step, not of "
                f"the type {type(betas).__name__}; make it by torch.tensor(betas, "
                "dtype=torch.float64)"
            )
        betas = betas.to(torch.float64)
        inside = (betas > 0) & (betas < 1)
        inside[-1:] |= betas[-1:] == 1
        if not bool(inside.all()):
            raise ComponentError(f"{type(self).__name__}: {_outside(betas, inside)}")
        log_kept = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0)])
        signal, noise = torch.exp(log_kept), -torch.expm1(log_kept)
        return _Table(signal, noise, torch.log(signal) - torch.log(noise))

    def log_snr(self, t: Time) -> Float64[Tensor, "..."]:
        t = as_time(t)
        signal, noise, _ = (column.to(t.device) for column in self._table)
        position = t * self.steps
        below = position.floor().clamp(max=self.steps - 1).long()
        part = position - below
        return torch.log(torch.lerp(signal[below], signal[below + 1], part)) - torch.log(
            torch.lerp(noise[below], noise[below + 1], part)
        )

    def time_at(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        signal, noise, grid = (column.to(log_snr.device) for column in self._table)
        log_snr = log_snr.to(torch.float64)
        # The last digit of log_snr(1) must not fall out of the range through rounding.
        slack = 1e-12 * grid[-1].abs()
        if not bool((log_snr >= grid[-1] - slack).all()):
            raise ComponentError(
                f"{type(self).__name__}: log-SNR {log_snr.min().item():.6g} is below the "
                f"schedule's smallest, {grid[-1].item():.6g}: it has no such noisy time"
            )
        above = torch.searchsorted(-grid, -log_snr, right=False).clamp(1, self.steps)
        below = above - 1
        by_noise = (torch.sigmoid(-log_snr) - noise[below]) / (noise[above] - noise[below])
        by_signal = (signal[below] - torch.sigmoid(log_snr)) / (signal[below] - signal[above])
        # Whichever of the two is small is the one that keeps its digits.
        part = torch.where(log_snr > 0, by_noise, by_signal).clamp(0.0, 1.0)
        return (below + part) / self.steps

    def snap(self, t: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        # A grid time must stay where it is, though k / T * T may round to just above k.
        return (t * self.steps - 1e-9).ceil().clamp(1, self.steps) / self.steps


def _outside(betas: Tensor, inside: Tensor) -> str:
    k = int((~inside).nonzero()[0]) + 1
    beta = betas[k - 1].item()
    advice = f"take more steps than {betas.numel()}, or smaller betas"
    if math.isnan(beta):
        advice = "find out what makes it NaN"
    elif beta <= 0:
        advice = "it has to be larger than 0, as each step adds noise"
    return f"beta_{k} = {beta:.4g} is outside (0, 1); {advice}"


class _Table(NamedTuple):
    """Columns over k = 0..T, float64 on the host; not buffers, so that no cast reaches them."""

    signal: Float64[Tensor, " grid"]
    noise: Float64[Tensor, " grid"]
    log_snr: Float64[Tensor, " grid"]
