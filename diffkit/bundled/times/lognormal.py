"""The noise levels that EDM trains at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from diffkit.core.schedule import NoiseSchedule
from diffkit.core.times import DrawnTimes, TrainingTimes

if TYPE_CHECKING:
    from jaxtyping import Float64


class LogNormal(TrainingTimes):
    """`ln(sigma/alpha) ~ N(P_mean, P_std^2)`, at whatever times the schedule has these levels.

    Karras et al. (2022), table 1, for `p_train`; their sigma is the noise-to-signal ratio
    `sigma/alpha`, so the log-SNR is normal, of mean `-2 P_mean` and deviation `2 P_std`. What falls
    outside the schedule's noise levels is trained at its ends, t_min and 1. On the grid of a
    discrete schedule, k has the probability of the levels of ((k - 1)/T, k/T].

    Args:
        mean: P_mean; theirs suits data of standard deviation 0.5.
        std: P_std.
    """

    def __init__(self, *, mean: float = -1.2, std: Annotated[float, Gt(0)] = 1.2) -> None:
        self._mean, self._std = mean, std

    @torch.no_grad()
    def draw(self, uniform: Float64[Tensor, " b"], schedule: NoiseSchedule) -> DrawnTimes:
        """`time_at(-2 (P_mean + P_std z))`, z the quantile of `1 - u`, snapped; weights 1."""
        log_snr = -2.0 * (self._mean + self._std * torch.special.ndtri(1.0 - uniform))
        most, least = (schedule.log_snr(t) for t in (schedule.t_min, 1.0))
        t = schedule.snap(schedule.time_at(log_snr.clamp(least, most)))
        return DrawnTimes(t, torch.ones_like(t))
