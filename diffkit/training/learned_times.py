"""The losses that a time distribution learns from: gathered, handed over, and saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diffkit.core.loss import LossRecord
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.times import TimesState, TrainingTimes
from diffkit.core.weights import fit_tensors
from diffkit.distributed.world import World
from diffkit.errors import CheckpointError

_PENDING = "pending"


class LearnedTimes:
    """What a time distribution has learned, and the losses that it has not been given yet.

    Losses stay on the device until the number of updates is a multiple of its `every`: when
    they are handed over depends on nothing else, so that a run that was ended in between, or that
    logs more often, is the same run. They come in the order of the rows, whoever computed them.
    Where nothing is learned, nothing is done.
    """

    def __init__(self, times: TrainingTimes, schedule: NoiseSchedule, world: World) -> None:
        self._times, self._world = times, world
        self.learned: TimesState = times.init(schedule)
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._read = torch.empty(0, 3, dtype=torch.float64)

    def add(self, first: int, record: LossRecord) -> None:
        """Losses of consecutive rows of all training, the first of this number; nothing is read."""
        if self.learned:
            numbers = torch.arange(first, first + len(record.t), dtype=torch.float64)
            self._waiting.append((numbers, record.t.detach(), record.values.detach()))

    def hand_over(self, step: int) -> None:
        """Give the distribution its losses, where `step` updates are as many as it waits for."""
        if not self.learned or step % self._times.every:
            return
        rows = self._gathered()
        self._read = rows[:0]
        _, t, values = rows[rows[:, 2].isfinite()].unbind(1)
        self.learned = self._times.update(self.learned, t, values)

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """The file of a checkpoint, if anything is learned; every process has to ask."""
        if not self.learned:
            return {}
        return {"times": {**self.learned, _PENDING: self._gathered()}}

    def forget_from(self, number: int) -> None:
        """Drop the losses of rows from this number on, of an update that was not made."""
        self._waiting = [waiting for waiting in self._waiting if int(waiting[0][0]) < number]

    def load(self, found: Mapping[str, Tensor], path: Path) -> None:
        """Take over what `tensors` gave. Raises CheckpointError where it does not fit."""
        pending = found.get(_PENDING, torch.empty(0))
        if pending.ndim != 2 or pending.shape[1] != 3 or pending.dtype != torch.float64:
            raise CheckpointError(f"{path}: {_PENDING!r} holds a number, a time and a loss a row")
        rest = {name: value for name, value in found.items() if name != _PENDING}
        self.learned = fit_tensors(rest, self.learned, path)
        self._waiting = []
        # One of the processes has them, whichever they were computed by.
        self._read = pending if self._world.is_main else pending[:0]

    def _gathered(self) -> Tensor:
        """Rows of number, time and loss, of all processes and in order; they remain pending."""
        if self._waiting:
            numbers, t, values = (torch.cat(column) for column in zip(*self._waiting, strict=True))
            read = torch.stack([numbers, t, values.cpu().double()], dim=1)
            self._read, self._waiting = torch.cat([self._read, read]), []
        rows = self._world.all_gather(self._read)
        return rows[rows[:, 0].argsort()]
