"""The times at which the loss is large."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from diffkit.core.component import Config, Facts
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.times import DrawnTimes, TimesState, TrainingTimes
from diffkit.errors import ComponentError

if TYPE_CHECKING:
    from jaxtyping import Float64


class Importance(TrainingTimes):
    """`p_t` in proportion to `sqrt(E[L_t^2])`, and weights `1 / (T p_t)`.

    Nichol & Dhariwal (2021), section 3.3, eq. 18: the expectation of the weighted loss remains the
    mean of `L_t` over the grid, and it varies least. The expectation of `L_t^2` is estimated by the
    last few losses at each time; before every time has so many, t is uniform. `L_t` is what the
    loss gives at t before the weights of the times: theirs is the bound, and any other will do.

    Args:
        history: how many losses are kept of each time; theirs are 10.
        uniform_share: of the draws that remain uniform, so that a time whose loss was once small is
            not forgotten, and no weight exceeds the inverse of this.
        every: after how many updates losses are handed over.
    """

    def __init__(
        self,
        *,
        history: Annotated[int, Ge(1)] = 10,
        uniform_share: Annotated[float, Gt(0), Le(1)] = 0.001,
        every: Annotated[int, Ge(1)] = 20,
    ) -> None:
        self._history, self._uniform_share, self._every = history, uniform_share, every

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """A grid of times, each of which has a history."""
        if facts.get("schedule.steps") is None:
            yield _NO_GRID

    @property
    def every(self) -> int:
        return self._every

    def init(self, schedule: NoiseSchedule) -> TimesState:
        """No losses: `losses` `[T, history]`, and how many each time has had, `counts` `[T]`.

        Raises ComponentError for a continuous schedule.
        """
        if schedule.steps is None:
            raise ComponentError(f"importance: {_NO_GRID}")
        return {
            "losses": torch.zeros(schedule.steps, self._history, dtype=torch.float64),
            "counts": torch.zeros(schedule.steps, dtype=torch.int64),
        }

    def update(
        self, state: TimesState, t: Float64[Tensor, " n"], values: Float64[Tensor, " n"]
    ) -> TimesState:
        """With these losses, unweighted again, in place of the oldest of their times."""
        losses, counts = state["losses"].clone(), state["counts"]
        row = (t * len(counts)).round().long() - 1
        own = values * self._density(state)[row]
        # Losses of one time stay in order, and each is numbered among those of its time.
        order = torch.argsort(row, stable=True)
        row, own = row[order], own[order]
        number = torch.arange(len(row)) - torch.searchsorted(row, row)
        new = torch.bincount(row, minlength=len(counts))
        kept = number >= new[row] - self._history
        place = (counts[row] + number) % self._history
        losses[row[kept], place[kept]] = own[kept]
        return {"losses": losses, "counts": counts + new}

    def draw(self, uniform: Float64[Tensor, " b"], schedule: NoiseSchedule) -> DrawnTimes:
        """Uniform, as long as no losses are known."""
        return self.draw_learned(uniform, schedule, self.init(schedule))

    def draw_learned(
        self, uniform: Float64[Tensor, " b"], schedule: NoiseSchedule, state: TimesState
    ) -> DrawnTimes:
        """The quantiles of p at `1 - u`, and their weights."""
        density = self._density(state)
        below = density.cumsum(0)
        # Divided by the last, so that no `1 - u` in (0, 1] lies above all of them.
        row = torch.searchsorted(below / below[-1], 1.0 - uniform)
        t = schedule.snap((row + 1).double() / len(density))
        return DrawnTimes(t, 1.0 / density[row])

    def _density(self, state: TimesState) -> Float64[Tensor, " steps"]:
        """`T p_t` on the grid: 1 until every time has its history."""
        losses, counts = state["losses"], state["counts"]
        size = losses.square().mean(1).sqrt()
        if bool((counts < self._history).any()) or not bool(size.sum() > 0):
            return torch.ones_like(size)
        return torch.lerp(size / size.mean(), torch.ones_like(size), self._uniform_share)


_NO_GRID = (
    "importance keeps a history of each time of a grid, and the schedule is continuous; take a "
    "schedule with steps, or the times 'logit-normal'"
)
