"""Right components of which some options act late, or on what few write."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le

from diffkit.core.average import Average
from diffkit.core.observer import Observer


class Switching(Average):
    """Draws the weights in training towards the average, now and then."""

    writes_weights: ClassVar[bool] = True

    def __init__(
        self,
        *,
        beta: Annotated[float, Gt(0), Le(1)] = 0.5,
        every: Annotated[int, Ge(1)] = 100,
    ) -> None:
        self._beta, self._every = beta, every

    def decay(self, step, track):
        return min(0.999, (1 + step) / (10 + step))

    def update(self, averages, weights, step):
        super().update(averages, weights, step)
        if step and step % self._every == 0:
            (average,) = averages.values()
            torch._foreach_lerp_(list(weights), list(average), self._beta)


class Stopping(Observer):
    """Stops a training whose loss has not fallen for a while."""

    def __init__(
        self,
        *,
        patience: Annotated[int, Ge(1)] = 20,
        by: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        self._patience, self._by = patience, by

    def diffkit_run_start(self, run):
        self._best, self._waited = float("inf"), 0

    def diffkit_step(self, run, step, metrics):
        better = metrics["loss"] < self._best - self._by
        self._waited = 0 if better else self._waited + 1
        self._best = min(self._best, metrics["loss"])
        if self._waited >= self._patience:
            run.stop("the loss no longer falls")


class StoppingByMetric(Stopping):
    """The same of a metric, which it evaluates at every tenth event."""

    def __init__(self, *, patience: Annotated[int, Ge(1)] = 5) -> None:
        self._patience, self._by = patience, 0.0

    def diffkit_step(self, run, step, metrics):
        if step % 10_000 == 0:
            super().diffkit_step(run, step, {"loss": run.evaluate()["fid"]})


WATCHERS = (Switching, Stopping, StoppingByMetric)
