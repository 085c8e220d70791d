"""TrainingTimes: at which times a network is trained."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor

from diffkit.core.component import Component
from diffkit.core.schedule import NoiseSchedule

if TYPE_CHECKING:
    from jaxtyping import Float64


class DrawnTimes(NamedTuple):
    """Times for a batch, on the host, and what each must be weighted by.

    The weights make the expectation the one under the uniform law, where the law means that;
    a law that is meant to change the objective gives ones.
    """

    t: Float64[Tensor, " b"]
    weight: Float64[Tensor, " b"]


class TrainingTimes(Component):
    """The law of t in training."""

    kind: ClassVar[str] = "times"

    @abstractmethod
    def draw(self, uniform: Float64[Tensor, " b"], schedule: NoiseSchedule) -> DrawnTimes:
        """Times in (0, 1] from independent uniform numbers in [0, 1), snapped to the schedule."""
