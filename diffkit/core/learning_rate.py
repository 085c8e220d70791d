"""LearningRate: how large each update is."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from diffkit.core.component import Component


class LearningRate(Component):
    """The learning rate over training. `training.warmup_steps` multiplies whatever it gives."""

    kind: ClassVar[str] = "learning-rate"

    @abstractmethod
    def rate(self, step: int, steps: int) -> float:
        """The learning rate of update number `step`, from 0, of a training of `steps` in all.

        A function of these two alone, finite and at least 0; `step` is less than `steps`, and
        `steps` at least 1. Where training goes on to another number of updates, `steps` is the new
        one.
        """
