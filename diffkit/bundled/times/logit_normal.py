"""The middle more often than the ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from diffkit.core.schedule import NoiseSchedule
from diffkit.core.times import DrawnTimes, TrainingTimes

if TYPE_CHECKING:
    from jaxtyping import Float64


class LogitNormal(TrainingTimes):
    """`log(t / (1 - t))` normal, so that the middle of (0, 1) is trained more often than its ends.

    `p(t) = exp(-(logit(t) - m)^2 / (2 s^2)) / (s sqrt(2 pi) t (1 - t))`, Esser et al. (2024),
    eq. 19. On the grid of a discrete schedule, k has the probability of ((k - 1)/T, k/T].

    Args:
        location: m, the median's logit; above 0 there is more noise, below 0 less.
        scale: s; the larger, the more often both ends are trained.
    """

    def __init__(self, *, location: float = 0.0, scale: Annotated[float, Gt(0)] = 1.0) -> None:
        self._location, self._scale = location, scale

    def draw(self, uniform: Float64[Tensor, " b"], schedule: NoiseSchedule) -> DrawnTimes:
        """`sigmoid(m + s z)`, z the normal quantile of `1 - u`, snapped; all weights are 1."""
        z = torch.special.ndtri(1.0 - uniform)
        t = schedule.snap(torch.sigmoid(self._location + self._scale * z))
        return DrawnTimes(t, torch.ones_like(t))
