"""All times alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.core.schedule import NoiseSchedule
from diffkit.core.times import DrawnTimes, TrainingTimes

if TYPE_CHECKING:
    from jaxtyping import Float64


class Uniform(TrainingTimes):
    """t uniform on (0, 1]; on the grid of a discrete schedule, k uniform on 1..T.

    Ho et al. (2020), Algorithm 1, line 3.
    """

    def draw(self, uniform: Float64[Tensor, " b"], schedule: NoiseSchedule) -> DrawnTimes:
        """`1 - u`, snapped; all weights are 1."""
        t = schedule.snap(1.0 - uniform)
        return DrawnTimes(t, torch.ones_like(t))
