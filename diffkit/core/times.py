"""TrainingTimes: at which times a network is trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor

from diffkit.core.component import Component
from diffkit.core.schedule import NoiseSchedule

if TYPE_CHECKING:
    from jaxtyping import Float64

TimesState = Mapping[str, Tensor]
"""What a time distribution has learned: named tensors on the host, whose shapes never change."""


class DrawnTimes(NamedTuple):
    """Times for a batch, on the host, and what each must be weighted by.

    The weights make the expectation the one under the uniform distribution, where the distribution
    means that; a distribution that is meant to change the objective gives ones.
    """

    t: Float64[Tensor, " b"]
    weight: Float64[Tensor, " b"]


class TrainingTimes(Component):
    """The distribution of t in training.

    A distribution that follows the losses keeps nothing itself. What it has learned is a state:
    `init` makes it, `update` makes the next one, `draw_learned` draws with it. The trainer keeps
    it, gives it the losses of all processes, and saves it in checkpoints. A distribution that never
    changes has `draw` alone.
    """

    kind: ClassVar[str] = "times"

    @abstractmethod
    def draw(self, uniform: Float64[Tensor, " b"], schedule: NoiseSchedule) -> DrawnTimes:
        """Times in (0, 1] from independent uniform numbers in [0, 1), snapped to the schedule.

        The numbers are those of a whole batch, whoever computes which of its rows, so that times
        may depend on each other. A distribution that learns draws as it does before any loss is
        known.
        """

    @property
    def every(self) -> int:
        """After how many updates a distribution that learns is given losses; then the host waits
        once.
        """
        return 20

    def init(self, schedule: NoiseSchedule) -> TimesState:
        """The state before any loss is known; empty, as by default, where nothing is learned."""
        return {}

    def update(
        self, state: TimesState, t: Float64[Tensor, " n"], values: Float64[Tensor, " n"]
    ) -> TimesState:
        """The next state, a new one, from finite losses in the order of training.

        Their times were drawn with `state`, and the weights drawn with them are still in `values`.
        """
        return state

    def draw_learned(
        self, uniform: Float64[Tensor, " b"], schedule: NoiseSchedule, state: TimesState
    ) -> DrawnTimes:
        """As `draw`, from the distribution that was learned, which is in `state`."""
        return self.draw(uniform, schedule)
