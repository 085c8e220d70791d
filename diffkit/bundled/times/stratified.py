"""The times of a batch spread evenly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.bundled.times.uniform import Uniform
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.times import DrawnTimes, TimesState, TrainingTimes

if TYPE_CHECKING:
    from jaxtyping import Float64


class Stratified(TrainingTimes):
    """Any distribution, whose times are spread over a batch as evenly as they can be.

    The distribution is given `u_i = (u_0 + i/n) mod 1`, i = 0..n-1, in place of independent
    numbers: Kingma et al. (2021), appendix I.1. A number turned by a constant around the circle
    remains uniform, so each time has exactly the distribution that it would have alone, and
    expectations are what they were; but of any part of [0, 1) of size p a batch holds n p numbers,
    give or take one, so that the mean of a batch varies less. n is the whole batch: neither
    processes nor micro-batches matter.

    Args:
        distribution: of each time.
    """

    def __init__(self, *, distribution: TrainingTimes = Uniform()) -> None:
        self._distribution = distribution

    def draw(self, uniform: Float64[Tensor, " b"], schedule: NoiseSchedule) -> DrawnTimes:
        """The distribution's times for the evenly spread numbers, of which the first decides."""
        return self._distribution.draw(_spread(uniform), schedule)

    @property
    def every(self) -> int:
        """The distribution's."""
        return self._distribution.every

    def init(self, schedule: NoiseSchedule) -> TimesState:
        """The distribution's."""
        return self._distribution.init(schedule)

    def update(
        self, state: TimesState, t: Float64[Tensor, " n"], values: Float64[Tensor, " n"]
    ) -> TimesState:
        """The distribution's."""
        return self._distribution.update(state, t, values)

    def draw_learned(
        self, uniform: Float64[Tensor, " b"], schedule: NoiseSchedule, state: TimesState
    ) -> DrawnTimes:
        """As `draw`, with what the distribution has learned."""
        return self._distribution.draw_learned(_spread(uniform), schedule, state)


def _spread(uniform: Tensor) -> Tensor:
    count = len(uniform)
    return (uniform[:1] + torch.arange(count, dtype=torch.float64) / count) % 1.0
