"""The losses of updates: kept on the device, and read by the host only when asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffkit.run.processes import Processes


@dataclass
class Tally:
    """What updates gave since metrics were last taken, and since the last checkpoint.

    An update adds two device scalars to a list and nothing is computed of them until they are
    read, all in one transfer.
    """

    _pending: list[Tensor] = field(default_factory=list)
    _since_metrics: list[tuple[float, float]] = field(default_factory=list)
    _since_checkpoint: list[float] = field(default_factory=list)

    def add(self, loss: Tensor, norm: Tensor) -> None:
        """One update's mean loss and the norm of its gradient."""
        self._pending += [loss, norm]

    def metrics(self, processes: Processes) -> Taken:
        """Of the updates since this was last called; at least one."""
        self._read(processes)
        taken, self._since_metrics = self._since_metrics, []
        return Taken(taken)

    def mean_since_checkpoint(self, processes: Processes) -> float | None:
        """The mean of the finite losses since this was last called; None where there is none."""
        self._read(processes)
        losses, self._since_checkpoint = self._since_checkpoint, []
        finite = [loss for loss in losses if math.isfinite(loss)]
        return math.fsum(finite) / len(finite) if finite else None

    def _read(self, processes: Processes) -> None:
        if not self._pending:
            return
        mine = torch.stack([scalar.detach().float() for scalar in self._pending])
        self._pending = []
        # Losses are means over equal shares of a batch; the gradient is the same everywhere.
        numbers = processes.gathered(mine[None]).mean(0).tolist()
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        self._since_metrics += pairs
        self._since_checkpoint += [loss for loss, _ in pairs]


@dataclass(frozen=True)
class Taken:
    """Losses and gradient norms of consecutive updates."""

    pairs: list[tuple[float, float]]

    @property
    def loss(self) -> float:
        """The mean of the finite losses; NaN where there is none."""
        finite = [loss for loss, norm in self.pairs if math.isfinite(loss + norm)]
        return math.fsum(finite) / len(finite) if finite else math.nan

    @property
    def norm(self) -> float:
        """The last norm."""
        return self.pairs[-1][1]

    @property
    def skipped(self) -> list[int]:
        """Which of the updates had a loss or a gradient that is not finite, counted from 0."""
        return [i for i, (loss, norm) in enumerate(self.pairs) if not math.isfinite(loss + norm)]
