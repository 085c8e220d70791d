"""Training: a loop of updates, and what surrounds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from diffkit.assembly.network import resolved_precision
from diffkit.assembly.system import System
from diffkit.core.dataset import Dataset
from diffkit.errors import CheckpointError, DataError, TrainingError, TrainingInterrupted
from diffkit.plugins.events import Events
from diffkit.plugins.hookspecs import RunInfo
from diffkit.run.artifacts import append_metrics, checkpoints, drop_metrics_after, read_tensors
from diffkit.run.checkpointing import read_training, training_tensors, write_training
from diffkit.run.interruption import Request, requests_noted
from diffkit.run.processes import Processes
from diffkit.run.progress import Progress, bar
from diffkit.run.tally import Taken, Tally
from diffkit.run.updates import Updates, learning_rate
from diffkit.spec.pipeline import TrainingSpec

MetricsSink = Callable[[int, Mapping[str, float]], None]
_AGREE_EVERY = 10
"""Updates between two questions to all processes whether to stop."""


@dataclass
class Progressed:
    """How far training has come."""

    step: int = 0
    seconds: float = 0.0


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
        processes: Processes,
        sinks: tuple[MetricsSink, ...] = (),
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
        self._spec, self._processes = spec, processes
        self._run, self._events, self._sinks = run, events, sinks
        self._updates = Updates(
            system=system,
            average=average,
            dataset=dataset,
            spec=spec,
            seed=seed,
            processes=processes,
        )
        self._device = self._updates.weights[0].device
        self._tally, self._written = Tally(), -1
        self.progressed = Progressed()

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint. Raises CheckpointError where it does not fit."""
        progress, state = read_training(checkpoint)
        try:
            self._updates.load(state, progress["groups"])
            self.progressed = Progressed(int(progress["step"]), float(progress["seconds"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{checkpoint}: the optimiser state does not fit: {error}"
            ) from error
        if self._updates.feedback.learned:
            path = checkpoint / "times.safetensors"
            self._updates.feedback.load(read_tensors(path), path)
        self._written = self.progressed.step
        if self._run.directory is not None and self._processes.first:
            drop_metrics_after(self._run.directory, self.progressed.step)

    def train(self, show: bool | None = None) -> None:
        """Train to the end that the spec sets.

        Raises:
            TrainingError: a loss or a gradient is not finite, or another process is gone.
            TrainingInterrupted: SIGINT or SIGTERM came; the run is as after any other end.
            CheckpointError: a checkpoint cannot be written; earlier ones are untouched.
        """
        devices = [self._device] if self._device.type == "cuda" else []
        self._events.run_start(self._run)
        self._system.train()
        with ExitStack() as around:
            around.callback(self._system.eval)
            around.enter_context(self._processes.failures_explained(self._what_remains))
            around.enter_context(torch.random.fork_rng(devices=devices))
            request = around.enter_context(requests_noted())
            shown = show if self._processes.first else False
            self._loop(around.enter_context(bar("training", 1.0, shown)), request)
            self._checkpoint()
        self._events.run_end(self._run, self.progressed.step)
        if request.signal is not None:
            raise TrainingInterrupted(request.signal, self._what_remains())

    def _loop(self, progress: Progress, request: Request) -> None:
        spec, here = self._spec, self.progressed
        since, before, began = 0, time.perf_counter(), time.perf_counter() - here.seconds
        while here.step < spec.steps and not self._to_stop(since, request):
            self._tally.add(*self._updates.make(here.step))
            here.step += 1
            since += 1
            self._updates.feedback.hand_over(here.step)
            here.seconds = time.perf_counter() - began
            if here.step % spec.log_every == 0:
                self._log(since / (time.perf_counter() - before), progress)
                since, before = 0, time.perf_counter()
            if here.step % spec.checkpoint_every == 0:
                self._checkpoint()
        if since:
            self._log(since / (time.perf_counter() - before), progress)

    def _to_stop(self, since: int, request: Request) -> bool:
        """Whether somebody asked to stop, or time is up; processes agree now and then."""
        limit = self._spec.max_seconds
        wanted = request.signal is not None
        wanted |= limit is not None and self.progressed.seconds >= limit
        if self._processes.count == 1:
            return wanted
        return self.progressed.step % _AGREE_EVERY == 0 and self._processes.any(wanted)

    def _log(self, updates_per_second: float, progress: Progress) -> None:
        spec, here = self._spec, self.progressed
        taken = self._tally.metrics(self._processes)
        if taken.skipped and spec.nonfinite == "stop":
            raise TrainingError(self._not_finite(taken))
        rate = updates_per_second * spec.batch_size
        metrics = {
            "step": here.step,
            "loss": taken.loss,
            "grad_norm": taken.norm,
            "learning_rate": learning_rate(here.step - 1, spec),
            "images_per_second": round(rate, 1),
            "seconds": round(here.seconds, 3),
        }
        if taken.skipped:
            metrics["skipped"] = len(taken.skipped)
        if self._processes.first:
            if self._run.directory is not None:
                append_metrics(self._run.directory, metrics)
            for sink in self._sinks:
                sink(here.step, metrics)
            self._events.step(self._run, here.step, metrics)
        done = here.step / spec.steps
        if spec.max_seconds is not None:
            done = max(done, here.seconds / spec.max_seconds)
        progress.update(done, f"loss {metrics['loss']:.4f}  {rate:.0f} images/s")

    def _not_finite(self, taken: Taken) -> str:
        first = self.progressed.step - len(taken.pairs) + taken.skipped[0] + 1
        loss, norm = taken.pairs[taken.skipped[0]]
        return (
            f"update {first} had a loss of {loss} and a gradient of norm {norm}; it and the "
            f"{len(taken.skipped) - 1} such that followed were not applied, so the weights are "
            "finite. Likely causes: a learning rate that is too high (lower "
            "training.learning_rate or set training.clip_norm), data with values that are not "
            "finite, or bfloat16 where float32 is needed. To leave out such updates and go on, "
            f"set training.nonfinite to skip. {self._what_remains()}"
        )

    def _what_remains(self) -> str:
        if self._run.directory is None:
            return "Nothing was to be kept, as training had no directory"
        kept = checkpoints(self._run.directory)
        if not kept:
            return f"No checkpoint was written yet in {self._run.directory}"
        return f"The last good checkpoint is {kept[-1]}"

    def _checkpoint(self) -> None:
        if self._run.directory is None or self._written == self.progressed.step:
            return
        self._written = self.progressed.step
        loss = self._tally.mean_since_checkpoint(self._processes)
        optimizer = self._updates.optimizer
        tensors = training_tensors(self._system, self._average, optimizer, self._processes)
        tensors |= self._updates.feedback.tensors()
        if self._processes.first:
            progress = {
                "step": self.progressed.step,
                "seconds": self.progressed.seconds,
                "loss": loss,
                "precision": resolved_precision(self._system.precision, self._device),
                "processes": self._processes.count,
            }
            path = write_training(self._run.directory, tensors, optimizer, progress, self._spec)
            self._events.checkpoint(self._run, self.progressed.step, path)
        self._processes.wait()
