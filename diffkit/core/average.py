"""Average: the weights that follow those in training, and are sampled with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from diffkit.core.component import Component


class Average(Component):
    """One average of the weights, or several, its tracks.

    It keeps nothing itself: a track is a copy of all weights, which the trainer keeps, saves and
    places, and what an update does is a function of these and of its number.
    """

    kind: ClassVar[str] = "average"
    writes_weights: ClassVar[bool] = False
    """Whether `update` may write into the weights in training too, as switch EMA does."""

    def tracks(self) -> tuple[str, ...]:
        """The names of the tracks; that of the only one is empty. The first is sampled with."""
        return ("",)

    def decay(self, step: int, track: str) -> float:
        """How much of the average remains at update number `step`, from 0: in [0, 1]."""
        raise NotImplementedError(f"{type(self).__name__} defines neither decay nor update")

    def update(
        self, averages: Mapping[str, Sequence[Tensor]], weights: Sequence[Tensor], step: int
    ) -> None:
        """Change every track in place, after update number `step` of the weights, from 0.

        Each track has a tensor for each of `weights`, of the same shape; before update 0 it is the
        weights of then. By default `average <- d average + (1 - d) weight`, with `d` its decay.
        """
        for track, average in averages.items():
            torch._foreach_lerp_(list(average), list(weights), 1.0 - self.decay(step, track))
