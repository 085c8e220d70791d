"""Training: a loop of updates, and what surrounds it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from signal import Signals
from typing import Any

import torch
from torch import Tensor

from diffkit.assembly.network import resolved_precision, without_autocast
from diffkit.assembly.system import System
from diffkit.config.spec import TrainingSpec
from diffkit.core.dataset import Dataset
from diffkit.core.random_state import generators_restored
from diffkit.core.weights import read_tensors
from diffkit.distributed.world import World
from diffkit.errors import DataError, DiffkitError, TrainingError, TrainingInterrupted
from diffkit.helpers.interruption import Request, requests_noted
from diffkit.helpers.progress import Progress, bar
from diffkit.plugins.events import Events
from diffkit.plugins.hookspecs import RunInfo
from diffkit.storage.checkpoint import (
    OPTIMIZER,
    optimizer_groups,
    optimizer_tensors,
    read_training,
    weights_of,
    write_training,
)
from diffkit.storage.run_directory import checkpoints, prune
from diffkit.training.loss_meter import LossMeter
from diffkit.training.state import Continuation, TrainState
from diffkit.training.train_step import TrainStep, learning_rate

MetricsSink = Callable[[int, Mapping[str, float]], None]
_log = logging.getLogger("diffkit")
_TIME_IS_UP = 1
"""Beside the numbers of SIGINT and SIGTERM, which are larger."""
_AGREE_EVERY = 10
"""Updates between two questions to all processes whether to stop."""


class Trainer:
    """Trains a system on a dataset, from wherever its state stands.

    Args:
        system: what is trained, on its device.
        average: a copy of it that follows as the moving average, or None.
        dataset: where batches come from.
        spec: how to train.
        seed: with the number of an update, it decides everything random in it.
        run: what observers are told; its directory, if any, receives metrics and checkpoints.
        events: the observers.
        processes: who shares the work; the first of them writes.
        sinks: called with each set of metrics.
        described: what every checkpoint says beside.
        made: called with the number of updates after each of them.
    """

    def __init__(
        self,
        *,
        system: System,
        average: System | None,
        dataset: Dataset,
        spec: TrainingSpec,
        seed: int,
        run: RunInfo,
        events: Events,
        world: World,
        sinks: tuple[MetricsSink, ...] = (),
        described: Mapping[str, Any] | None = None,
        made: Callable[[int], None] = lambda step: None,
    ) -> None:
        if len(dataset) == 0:
            raise DataError("the dataset is empty; training needs at least one sample")
        if tuple(dataset.shape) != system.parts.shape:
            raise DataError(
                f"the dataset has samples of the shape {list(dataset.shape)}, and the pipeline "
                f"was built for {list(system.parts.shape)}; set data.shape, or the dataset in "
                "the spec"
            )
        self._system, self._average = system, average
        self._spec, self._world = spec, world
        self._run, self._events, self._sinks = run, events, sinks
        self._train_step = TrainStep(
            system=system,
            average=average,
            dataset=dataset,
            spec=spec,
            seed=seed,
            world=world,
        )
        self._device = self._train_step.weights[0].device
        self._meter, self._written = LossMeter(), -1
        self._target = spec.steps
        self._limit = math.inf if spec.max_seconds is None else spec.max_seconds
        self._made, self._described = made, dict(described or {})
        self.state = TrainState()

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint; nothing is written. Raises CheckpointError where it does not
        fit.
        """
        progress, found = read_training(checkpoint, self._train_step.names)
        self._train_step.load(found, checkpoint / f"{OPTIMIZER}.safetensors")
        learned_times = self._train_step.learned_times
        if learned_times.learned:
            path = checkpoint / "times.safetensors"
            learned_times.load(read_tensors(path), path)
        self._begin(int(progress["step"]), float(progress["seconds"]))
        self._written = self.state.step

    def go_on(self, continuation: Continuation) -> None:
        """Go on from what an earlier session left in memory."""
        self._train_step.load(
            continuation.optimizer, "the optimiser's state of the training before"
        )
        learned_times = self._train_step.learned_times
        if learned_times.learned and continuation.times:
            learned_times.load(continuation.times, Path("the times learned by the training before"))
        self._begin(continuation.step, continuation.seconds)
        self._target = continuation.step + self._spec.steps
        self._limit += continuation.seconds

    def continuation(self) -> Continuation | None:
        """What another session can go on from; None where the processes hold it in parts, or where
        training ended within an update.
        """
        if self._world.count > 1 or not self._train_step.whole:
            return None
        tensors = optimizer_tensors(self._train_step.optimizer, self._train_step.names)
        held = {name: value.detach().cpu() for name, value in tensors.items()}
        times = self._train_step.learned_times.tensors().get("times", {})
        return Continuation(self.state.step, self.state.seconds, held, times)

    @property
    def target(self) -> int:
        """The number of updates in all at which training ends."""
        return self._target

    def _begin(self, step: int, seconds: float) -> None:
        self.state = TrainState(step, seconds)
        self._made(step)

    def train(self, show: bool | None = None) -> None:
        """Train to the end that the spec sets.

        Whatever ends it, short of a kill, leaves a checkpoint of the last good weights.

        Raises:
            TrainingError: a loss or a gradient is not finite, or another process is gone.
            TrainingInterrupted: SIGINT or SIGTERM came; the run is as after any other end.
            CheckpointError: a checkpoint cannot be written; earlier ones are untouched.
        """
        self._tell(self._events.run_start, self._run)
        self._system.train()
        with ExitStack() as around:
            around.callback(self._system.eval)
            around.enter_context(self._world.explain_failures(self._what_remains))
            # Whatever the caller's modes are, weights get their gradients, in the spec's precision.
            around.enter_context(torch.inference_mode(False))
            around.enter_context(torch.enable_grad())
            around.enter_context(without_autocast(self._device))
            around.enter_context(generators_restored(self._device))
            request = around.enter_context(requests_noted())
            shown = show if self._world.is_main else False
            progress = around.enter_context(bar("training", 1.0, shown))
            try:
                self._loop(progress, request)
                self._checkpoint()
            except BaseException:
                self._rescue()
                raise
        self._tell(self._events.run_end, self._run, self.state.step)
        if request.signal is not None:
            raise TrainingInterrupted(request.signal, self._what_remains())

    def _loop(self, progress: Progress, request: Request) -> None:
        spec, here = self._spec, self.state
        since, before, began = 0, time.perf_counter(), time.perf_counter() - here.seconds
        while here.step < self._target and not self._to_stop(since, request):
            self._meter.add(self._train_step.make(here.step))
            here.step += 1
            since += 1
            self._train_step.learned_times.hand_over(here.step)
            here.seconds = time.perf_counter() - began
            self._made(here.step)
            self._train_step.whole = True
            if here.step % spec.log_every == 0:
                self._log(since / (time.perf_counter() - before), progress)
                since, before = 0, time.perf_counter()
            if here.step % spec.checkpoint_every == 0:
                self._checkpoint()
        if since:
            self._log(since / (time.perf_counter() - before), progress)

    def _to_stop(self, since: int, request: Request) -> bool:
        """Whether somebody asked to stop, or time is up; processes agree now and then."""
        wanted = _TIME_IS_UP if self.state.seconds >= self._limit else 0
        wanted = wanted if request.signal is None else int(request.signal)
        if self._world.count > 1:
            if self.state.step % _AGREE_EVERY:
                return False
            wanted = self._world.all_max(wanted)
            if wanted > _TIME_IS_UP:
                request.signal = Signals(wanted)
        return wanted > 0

    def _log(self, updates_per_second: float, progress: Progress) -> None:
        spec, here = self._spec, self.state
        read = self._meter.metrics(self._world)
        if read.skipped and spec.nonfinite == "stop":
            self._rescue()
            raise TrainingError(f"{read.not_finite(here.step)} {self._what_remains()}")
        rate = updates_per_second * spec.batch_size
        metrics = {
            "step": here.step,
            "loss": read.loss,
            **read.terms,
            "grad_norm": read.norm,
            "learning_rate": learning_rate(here.step - 1, spec),
            "images_per_second": round(rate, 1),
            "seconds": round(here.seconds, 3),
        }
        if read.skipped:
            metrics["skipped"] = len(read.skipped)
        if self._world.is_main:
            for sink in self._sinks:
                sink(here.step, metrics)
            self._tell(self._events.step, self._run, here.step, metrics)
        done = max(here.step / self._target, here.seconds / self._limit)
        progress.update(done, f"loss {metrics['loss']:.4f}  {rate:.0f} images/s")

    def _tell(self, event: Callable[..., None], *what: object) -> None:
        """Tell observers. They meet the network as it is sampled with, dropout off, and training
        finds every module in the mode in which it was.
        """
        modes = {module: module.training for module in self._system.modules()}
        self._system.eval()
        try:
            event(*what)
        finally:
            for module, mode in modes.items():
                module.training = mode

    def _what_remains(self) -> str:
        if self._run.directory is None:
            return "Nothing was to be kept, as training had no directory"
        kept = checkpoints(self._run.directory)
        if not kept:
            return f"No checkpoint was written yet in {self._run.directory}"
        return f"The last good checkpoint is {kept[-1]}"

    def _checkpoint(self) -> None:
        if self._run.directory is None or self._written == self.state.step:
            return
        self._written = self.state.step
        loss = self._meter.mean_since_checkpoint(self._world)
        tensors = self._tensors()
        if self._world.is_main:
            path = self._write(tensors, loss)
            prune(self._run.directory, self._spec.keep, self._spec.keep_best)
            self._tell(self._events.checkpoint, self._run, self.state.step, path)
        self._world.barrier()

    def _rescue(self) -> None:
        """Keep the last good weights of training that fails, as far as this process can alone."""
        directory, step = self._run.directory, self.state.step
        if directory is None or not self._world.is_main or self._written == step:
            return
        learned_times = self._train_step.learned_times
        needs_others = self._world.sharded or bool(learned_times.learned)
        if not self._train_step.whole or (self._world.count > 1 and needs_others):
            return
        self._written = step
        try:
            learned_times.forget_from(step * self._spec.batch_size)
            self._write(self._tensors(), None)
        except (DiffkitError, OSError, RuntimeError) as error:
            _log.warning("the weights after update %d could not be kept: %s", step, error)

    def _tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """The files of a checkpoint that training can go on from; every process has to ask."""
        tensors = weights_of(self._system, self._average)
        tensors[OPTIMIZER] = optimizer_tensors(self._train_step.optimizer, self._train_step.names)
        whole = {name: self._world.gather_state(values) for name, values in tensors.items()}
        return {**whole, **self._train_step.learned_times.tensors()}

    def _write(self, tensors: Mapping[str, Mapping[str, Tensor]], loss: float | None) -> Path:
        assert self._run.directory is not None
        updates, here = self._train_step, self.state
        progress = {
            **self._described,
            "seconds": here.seconds,
            "loss": loss,
            "precision": resolved_precision(self._system.precision, self._device),
            "processes": self._world.count,
            "groups": optimizer_groups(updates.optimizer, updates.names),
        }
        return write_training(self._run.directory, here.step, tensors, self._run.spec, progress)
