"""The losses of updates: kept on the device, and read by the host only when asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffkit.distributed.world import World
from diffkit.errors import ComponentError
from diffkit.training.train_step import StepResult


@dataclass
class LossMeter:
    """What updates gave since metrics were last taken, and since the last checkpoint.

    An update adds device scalars to a list and nothing is computed of them until they are read,
    all in one transfer.
    """

    _pending: list[tuple[Tensor, ...]] = field(default_factory=list)
    _since_metrics: list[list[float]] = field(default_factory=list)
    _since_checkpoint: list[float] = field(default_factory=list)
    _terms: tuple[str, ...] = ()

    def add(self, made: StepResult) -> None:
        """One update."""
        if not (self._pending or self._since_metrics):
            self._terms = tuple(made.terms)
        if made.terms.keys() != set(self._terms):
            raise ComponentError(
                f"loss: the terms of its record were {list(self._terms)} and are "
                f"{list(made.terms)} at this update; give the same at every update"
            )
        self._pending.append((made.loss, made.norm, *(made.terms[name] for name in self._terms)))

    def metrics(self, world: World) -> Metrics:
        """Of the updates since this was last called; at least one."""
        self._read(world)
        metrics, self._since_metrics = self._since_metrics, []
        return Metrics(
            [(row[0], row[1]) for row in metrics], self._terms, [row[2:] for row in metrics]
        )

    def mean_since_checkpoint(self, world: World) -> float | None:
        """The mean of the finite losses since this was last called; None where there is none."""
        self._read(world)
        losses, self._since_checkpoint = self._since_checkpoint, []
        return _finite_mean(losses)

    def _read(self, world: World) -> None:
        if not self._pending:
            return
        width = len(self._pending[0])
        flat = [scalar.detach().float() for row in self._pending for scalar in row]
        self._pending = []
        # Losses are means over equal shares of a batch; the gradient is the same everywhere.
        numbers = world.all_gather(torch.stack(flat)[None]).mean(0).tolist()
        rows = [numbers[i : i + width] for i in range(0, len(numbers), width)]
        self._since_metrics += rows
        self._since_checkpoint += [row[0] for row in rows]


@dataclass(frozen=True)
class Metrics:
    """Losses and gradient norms of consecutive updates."""

    pairs: list[tuple[float, float]]
    names: tuple[str, ...] = ()
    rows: list[list[float]] = field(default_factory=list)
    """The terms of the losses, with their names."""

    @property
    def loss(self) -> float:
        """The mean of the finite losses; NaN where there is none."""
        found = _finite_mean([loss for loss, norm in self.pairs if math.isfinite(loss + norm)])
        return math.nan if found is None else found

    @property
    def norm(self) -> float:
        """The last norm."""
        return self.pairs[-1][1]

    @property
    def terms(self) -> dict[str, float]:
        """The mean of each term where it is finite; NaN where it never is."""
        means = (_finite_mean([row[i] for row in self.rows]) for i in range(len(self.names)))
        return {
            name: math.nan if mean is None else mean
            for name, mean in zip(self.names, means, strict=True)
        }

    @property
    def skipped(self) -> list[int]:
        """Which of the updates had a loss or a gradient that is not finite, counted from 0."""
        return [i for i, (loss, norm) in enumerate(self.pairs) if not math.isfinite(loss + norm)]

    def not_finite(self, step: int) -> str:
        """What is to be said of them where one is not finite; they end with update `step`."""
        first, last = (step - len(self.pairs) + self.skipped[at] + 1 for at in (0, -1))
        loss, norm = self.pairs[self.skipped[0]]
        which = f"update {first}" if first == last else f"{len(self.skipped)} of the updates "
        which += "" if first == last else f"{first} to {last}"
        return (
            f"{which} had a loss or a gradient that is not finite (first a loss of {loss}, a "
            f"gradient of norm {norm}). They were not applied, so the weights are finite, and "
            "training stopped. Likely causes: a learning rate that is too high (lower "
            "training.learning_rate or set training.clip_norm), data with values that are not "
            "finite, or bfloat16 where float32 is needed. To leave out such updates and go on, set "
            "training.nonfinite to skip."
        )


def _finite_mean(values: list[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None
