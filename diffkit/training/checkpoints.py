"""The checkpoints of one training: written now and then, and once more by whatever ends it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diffkit.assembly.network import resolved_precision
from diffkit.assembly.system import System
from diffkit.config.spec import TrainingSpec
from diffkit.core.weights import read_tensors
from diffkit.distributed.world import World
from diffkit.errors import DiffkitError
from diffkit.plugins.hookspecs import RunInfo
from diffkit.storage.checkpoint import (
    AVERAGES,
    OPTIMIZER,
    read_training,
    weights_of,
    write_training,
)
from diffkit.storage.optimizer_state import OptimizerState
from diffkit.storage.run_directory import checkpoints, prune
from diffkit.storage.weights import Continuation
from diffkit.training.state import TrainState
from diffkit.training.train_step import TrainStep

_log = logging.getLogger("diffkit")
_TIMES = "times"


class Checkpoints:
    """Writes what a training can go on from, and reads it.

    Args:
        run: its directory keeps them; without one nothing is written.
        spec: how many are kept.
        system: what is trained.
        averages: what follows it, by full name.
        train_step: what makes the updates.
        world: who shares the work; the first writes.
        described: what every checkpoint says beside.
    """

    def __init__(
        self,
        *,
        run: RunInfo,
        spec: TrainingSpec,
        system: System,
        averages: Mapping[str, System],
        train_step: TrainStep,
        world: World,
        described: Mapping[str, Any],
    ) -> None:
        self._run, self._spec, self._world = run, spec, world
        self._system, self._averages, self._train_step = system, averages, train_step
        self._described = dict(described)
        self._written = -1

    def is_due(self, state: TrainState) -> bool:
        """Whether there is a directory, and not yet a checkpoint of this update."""
        return self._run.directory is not None and self._written != state.step

    def write(self, state: TrainState, loss: float | None) -> Path | None:
        """A checkpoint of this update; every process has to come here. None where it is not the
        one that writes.
        """
        self._written = state.step
        tensors, record = self._tensors()
        if not self._world.is_main:
            return None
        assert self._run.directory is not None
        path = self._write(tensors, record, state, loss)
        prune(self._run.directory, self._spec.keep, self._spec.keep_best)
        return path

    def rescue(self, state: TrainState) -> None:
        """Keep the last good weights of training that fails, as far as this process can alone."""
        if not self.is_due(state) or not self._world.is_main:
            return
        learned_times = self._train_step.learned_times
        needs_others = self._world.sharded or bool(learned_times.learned)
        if not self._train_step.whole or (self._world.count > 1 and needs_others):
            return
        self._written = state.step
        try:
            learned_times.forget_from(state.step * self._spec.batch_size)
            self._write(*self._tensors(), state, None)
        except (DiffkitError, OSError, RuntimeError) as error:
            _log.warning("the weights after update %d could not be kept: %s", state.step, error)

    def resume(self, checkpoint: Path) -> TrainState:
        """Take over what a checkpoint has beside the weights. Raises CheckpointError where it does
        not fit.
        """
        progress, found = read_training(checkpoint)
        self._train_step.load(found, checkpoint / f"{OPTIMIZER}.safetensors")
        learned_times = self._train_step.learned_times
        if learned_times.learned:
            path = checkpoint / f"{_TIMES}.safetensors"
            learned_times.load(read_tensors(path), path)
        self._written = int(progress["step"])
        return TrainState(self._written, float(progress["seconds"]))

    def go_on(self, continuation: Continuation) -> TrainState:
        """Take over what an earlier training left in memory."""
        self._train_step.load(
            continuation.optimizer, "the optimiser's state of the training before"
        )
        learned_times = self._train_step.learned_times
        if learned_times.learned and continuation.times:
            learned_times.load(continuation.times, Path("the times learned by the training before"))
        return TrainState(continuation.step, continuation.seconds)

    def continuation(self, state: TrainState) -> Continuation | None:
        """What another training can go on from; None where the processes hold it in parts, or
        where training ended within an update.
        """
        if self._world.count > 1 or not self._train_step.whole:
            return None
        read = self._train_step.updates.slots.read()
        held = {name: value.cpu() for name, value in read.tensors.items()}
        optimizer = OptimizerState(held, read.record)
        times = self._train_step.learned_times.tensors().get(_TIMES, {})
        return Continuation(state.step, state.seconds, optimizer, times)

    def what_remains(self) -> str:
        """A sentence about what is kept, for errors."""
        if self._run.directory is None:
            return "Nothing was to be kept, as training had no directory"
        kept = checkpoints(self._run.directory)
        if not kept:
            return f"No checkpoint was written yet in {self._run.directory}"
        return f"The last good checkpoint is {kept[-1]}"

    def check(self) -> None:
        """Raise ComponentError where no checkpoint can hold what the optimiser keeps."""
        self._train_step.updates.slots.read()

    def _tensors(self) -> tuple[dict[str, Mapping[str, Tensor]], Mapping[str, Any]]:
        """The files of a checkpoint, and the record of the optimiser's state."""
        read = self._train_step.updates.slots.read()
        tensors = {**weights_of(self._system, self._averages), OPTIMIZER: read.tensors}
        whole = {name: self._world.gather_state(values) for name, values in tensors.items()}
        return {**whole, **self._train_step.learned_times.tensors()}, read.record

    def _write(
        self,
        tensors: Mapping[str, Mapping[str, Tensor]],
        record: Mapping[str, Any],
        state: TrainState,
        loss: float | None,
    ) -> Path:
        assert self._run.directory is not None
        progress = {
            **self._described,
            "seconds": state.seconds,
            "loss": loss,
            "precision": resolved_precision(self._system.precision, self._system.device),
            "processes": self._world.count,
            AVERAGES: list(self._averages),
            OPTIMIZER: record,
        }
        return write_training(self._run.directory, state.step, tensors, self._run.spec, progress)
