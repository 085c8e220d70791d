"""Spacing: at which times a trajectory stops."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from diffkit.core.component import Component
from diffkit.core.schedule import NoiseSchedule


class Spacing(Component):
    """Chooses the times of a trajectory: host numbers, strictly decreasing, ending at 0."""

    kind: ClassVar[str] = "spacing"
    starts_at_one: ClassVar[bool] = True
    """Whether every trajectory starts at t = 1, where the prior is. One that does not is flawed:
    Lin et al. (2024), section 3.3; it may declare that, to reproduce others' samples."""

    @abstractmethod
    def times(self, steps: int, schedule: NoiseSchedule) -> tuple[float, ...]:
        """`steps + 1` times, the last one 0. Raises ComponentError for impossible `steps`."""
