"""Training: a loop of updates, and what surrounds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from diffkit.assembly.network import without_autocast
from diffkit.assembly.system import System
from diffkit.assembly.training import TrainingComponents
from diffkit.config.spec import PipelineSpec
from diffkit.core.dataset import Dataset
from diffkit.core.random_state import generators_restored
from diffkit.distributed.world import World
from diffkit.errors import TrainingError, TrainingInterrupted
from diffkit.helpers.files import write_json
from diffkit.helpers.interruption import requests_noted
from diffkit.helpers.progress import Progress, bar
from diffkit.plugins.events import Events
from diffkit.storage import run_directory
from diffkit.storage.ownership import set_aside_after
from diffkit.storage.weights import Continuation, Weights
from diffkit.training.checkpoints import Checkpoints
from diffkit.training.ending import Ending
from diffkit.training.loader import check_samples
from diffkit.training.loss_meter import LossMeter
from diffkit.training.metric_log import own_log
from diffkit.training.observed_run import Abilities, Looking, ObservedRun
from diffkit.training.state import TrainState
from diffkit.training.train_step import TrainStep


class Trainer:
    """Trains weights, and leaves them as they are at the end.

    Making one looks at everything and writes nothing; `train` writes.

    Args:
        weights: what is trained, on its device, and the averages that follow.
        dataset: where batches come from.
        spec: how to train, and the seed that decides everything random.
        components: what makes the updates.
        directory: where metrics and checkpoints go, or None.
        world: who shares the work; the first process writes.
        events: the observers.
        goes_on_from: a checkpoint, whose weights the system has; what an earlier training left in
            memory; or nothing.
        described: what every checkpoint says beside.
        looking: what observers may ask for.

    Raises:
        DataError: the data are empty, or of another shape.
        CheckpointError: what it goes on from does not fit.
    """

    def __init__(
        self,
        *,
        weights: Weights,
        dataset: Dataset,
        spec: PipelineSpec,
        components: TrainingComponents,
        directory: Path | None,
        world: World,
        events: Events,
        goes_on_from: Path | Continuation | None = None,
        described: Mapping[str, Any] | None = None,
        looking: Looking | None = None,
    ) -> None:
        check_samples(dataset, weights.system.parts.shape)
        before = goes_on_from if isinstance(goes_on_from, Continuation) else None
        self._target = spec.training.steps + (0 if before is None else before.step)
        self._run, self._events = ObservedRun(directory, _recorded(spec, self._target)), events
        self._spec, self._world, self._weights = spec.training, world, weights
        self._given = {"": weights.system, **weights.averages}
        self._trained = {name: _shard(world, module) for name, module in self._given.items()}
        followed = dict(self._trained)
        self._system = followed.pop("")
        self._train_step = TrainStep(
            system=self._system,
            averages=followed,
            components=components,
            dataset=dataset,
            spec=spec.training,
            seed=spec.seed,
            world=world,
            steps=self._target,
        )
        self._checkpoints = Checkpoints(
            run=self._run,
            spec=spec.training,
            system=self._system,
            averages=followed,
            train_step=self._train_step,
            world=world,
            described=described or {},
        )
        self._own_log = own_log(directory) if directory is not None and world.is_main else None
        self._device = self._train_step.weights[0].device
        self._meter = LossMeter()
        self.state = self._beginning(goes_on_from)
        self._first = self.state.step
        if goes_on_from is not None:
            weights.steps = self.state.step
        limit = self._spec.max_seconds
        if limit is not None and before is not None:
            limit += before.seconds
        self._ending = Ending(self.state, limit, world)
        if looking is not None:
            self._enable(looking)

    def _enable(self, looking: Looking) -> None:
        """Let observers sample, measure, log and stop."""
        able = Abilities(
            looking=looking,
            system=self._weights.system,
            average=self._weights.average,
            go_on=self._ending.check,
            log=lambda name, value: self._tell(
                self._events.log, self._run, self.state.step, name, value
            ),
            stop=self._ending.stop,
        )
        self._run.enable(able)

    def _beginning(self, goes_on_from: Path | Continuation | None) -> TrainState:
        if isinstance(goes_on_from, Continuation):
            return self._checkpoints.go_on(goes_on_from)
        return TrainState() if goes_on_from is None else self._checkpoints.resume(goes_on_from)

    def train(self, show: bool | None = None) -> None:
        """Train to the end that the spec sets, and leave the weights in the system.

        Whatever ends it, short of a kill, leaves a checkpoint of the last good weights.

        Raises:
            TrainingError: a loss or a gradient is not finite, or another process is gone.
            TrainingInterrupted: SIGINT or SIGTERM came; the run is as after any other end.
            CheckpointError: a checkpoint cannot be written; earlier ones are untouched.
        """
        if self._run.directory is not None and self._world.is_main:
            self._prepare(self._run.directory)
        try:
            self._updates(show)
        finally:
            self._weights.continuation = self._checkpoints.continuation(self.state)
        for name, module in self._given.items():
            self._world.unshard_into(self._trained[name], module)
        if (signal := self._ending.request.signal) is not None:
            raise TrainingInterrupted(signal, self._checkpoints.what_remains())

    def _prepare(self, directory: Path) -> None:
        """The first that is written: everything that could refuse the run has been asked."""
        run_directory.clear_run(directory)
        set_aside_after(directory, self.state.step)
        run_directory.drop_metrics_after(directory, self.state.step)
        write_json(directory / run_directory.SPEC, self._run.spec)

    def _updates(self, show: bool | None) -> None:
        """All updates, in the modes that they need."""
        self._tell(self._events.run_start, self._run)
        self._system.train()
        with ExitStack() as around:
            around.callback(self._system.eval)
            around.enter_context(self._world.explain_failures(self._checkpoints.what_remains))
            # Whatever the caller's modes are, weights get their gradients, in the spec's precision.
            around.enter_context(torch.inference_mode(False))
            around.enter_context(torch.enable_grad())
            around.enter_context(without_autocast(self._device))
            around.enter_context(generators_restored(self._device))
            self._ending.request = around.enter_context(requests_noted())
            shown = show if self._world.is_main else False
            progress = around.enter_context(bar("training", 1.0, shown))
            try:
                self._loop(progress)
                self._checkpoint()
            except BaseException:
                self._checkpoints.rescue(self.state)
                raise
        self._tell(self._events.run_end, self._run, self.state.step)

    def _loop(self, progress: Progress) -> None:
        spec, here = self._spec, self.state
        since, before, began = 0, time.perf_counter(), time.perf_counter() - here.seconds
        while here.step < self._target and not self._ending.is_due():
            self._meter.add(self._train_step.make(here.step))
            here.step += 1
            since += 1
            self._train_step.learned_times.hand_over(here.step)
            now = time.perf_counter()
            here.seconds = now - began
            self._ending.updated(now)
            self._weights.steps = here.step
            self._train_step.whole = True
            if here.step == self._first + 1:
                self._checkpoints.check()
            if here.step % spec.log_every == 0:
                self._log(since / (time.perf_counter() - before), progress)
                since, before = 0, time.perf_counter()
            if here.step % spec.checkpoint_every == 0:
                self._checkpoint()
        if since:
            self._log(since / (time.perf_counter() - before), progress)

    def _log(self, updates_per_second: float, progress: Progress) -> None:
        spec, here = self._spec, self.state
        read = self._meter.metrics(self._world)
        if read.skipped and spec.nonfinite == "stop":
            self._checkpoints.rescue(here)
            remains = self._checkpoints.what_remains()
            raise TrainingError(f"{read.not_finite(here.step)} {remains}")
        rate = updates_per_second * spec.batch_size
        metrics = {
            "step": here.step,
            "loss": read.loss,
            **read.terms,
            "grad_norm": read.norm,
            "learning_rate": self._train_step.rate(here.step - 1),
            "images_per_second": round(rate, 1),
            "seconds": round(here.seconds, 3),
        }
        if read.skipped:
            metrics["skipped"] = len(read.skipped)
        if self._world.is_main:
            if self._own_log is not None:
                self._own_log(here.step, metrics)
            self._tell(self._events.step, self._run, here.step, metrics)
        done = max(here.step / self._target, self._ending.spent())
        progress.update(done, f"loss {metrics['loss']:.4f}  {rate:.0f} images/s")

    def _checkpoint(self) -> None:
        if not self._checkpoints.is_due(self.state):
            return
        loss = self._meter.mean_since_checkpoint(self._world)
        path = self._checkpoints.write(self.state, loss)
        if path is not None:
            self._tell(self._events.checkpoint, self._run, self.state.step, path)
        self._world.barrier()

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


def _recorded(spec: PipelineSpec, steps: int) -> dict[str, Any]:
    """The spec as a run keeps it: with the updates of all trainings together."""
    training = spec.training.model_copy(update={"steps": steps})
    return spec.model_copy(update={"training": training}).model_dump(mode="json")


def _shard(world: World, module: System) -> System:
    found = world.shard(module)
    assert isinstance(found, System)
    return found
