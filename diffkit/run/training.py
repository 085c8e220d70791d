"""Training: every update is a function of the seed and its number, so resuming is exact."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffkit.assembly.system import System
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.noise import BatchNoise, mix
from diffkit.errors import CheckpointError, DataError, TrainingError
from diffkit.functional.ema import ema_decay, ema_update
from diffkit.plugins.events import Events
from diffkit.plugins.hookspecs import RunInfo
from diffkit.run.artifacts import (
    append_metrics,
    drop_metrics_after,
    fit_tensors,
    read_json,
    read_tensors,
    write_checkpoint,
)
from diffkit.run.order import DataOrder
from diffkit.run.progress import Progress, bar
from diffkit.spec.pipeline import TrainingSpec

MetricsSink = Callable[[int, Mapping[str, float]], None]


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
        self._dataset, self._spec, self._seed = dataset, spec, seed
        self._run, self._events, self._sinks = run, events, sinks
        self._order = DataOrder(len(dataset), seed)
        self._weights = [p for p in system.parameters() if p.requires_grad]
        self._device = self._weights[0].device
        self._optimizer = _optimizer(spec, self._weights)
        self.progressed = Progressed()

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint. Raises CheckpointError where it does not fit."""
        progress = read_json(checkpoint / "trainer.json")
        if "groups" not in progress:
            raise CheckpointError(
                f"{checkpoint} holds weights only, no optimiser state; training cannot go on "
                "from it (a saved pipeline is for sampling)"
            )
        flat = read_tensors(checkpoint / "optimizer.safetensors")
        state: dict[int, dict[str, Tensor]] = {}
        try:
            for key, value in flat.items():
                index, _, name = key.partition(".")
                state.setdefault(int(index), {})[name] = self._laid_out(int(index), value)
            self._optimizer.load_state_dict({"state": state, "param_groups": progress["groups"]})
            self.progressed = Progressed(int(progress["step"]), float(progress["seconds"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{checkpoint}: the optimiser state does not fit: {error}"
            ) from error
        if self._run.directory is not None:
            drop_metrics_after(self._run.directory, self.progressed.step)

    def train(self, show: bool | None = None) -> None:
        """Train to the end that the spec sets.

        Raises:
            TrainingError: the loss is no longer finite.
            CheckpointError: a checkpoint cannot be written; earlier ones are untouched.
        """
        devices = [self._device] if self._device.type == "cuda" else []
        self._events.run_start(self._run)
        self._system.train()
        try:
            with torch.random.fork_rng(devices=devices), bar("training", 1.0, show) as progress:
                self._loop(progress)
        finally:
            self._system.eval()
        if self._run.directory is not None:
            self._checkpoint()
        self._events.run_end(self._run, self.progressed.step)

    def _laid_out(self, index: int, value: Tensor) -> Tensor:
        """In the memory layout of its weight: fused optimisers walk both in step."""
        weight = self._weights[index] if index < len(self._weights) else None
        if weight is None or weight.shape != value.shape:
            return value
        return torch.empty_like(weight, dtype=value.dtype).copy_(value)

    def _loop(self, progress: Progress) -> None:
        spec, here = self._spec, self.progressed
        total = torch.zeros((), device=self._device)
        norm = torch.zeros((), device=self._device)
        since, before, began = 0, time.perf_counter(), time.perf_counter() - here.seconds
        while here.step < spec.steps:
            if spec.max_seconds is not None and here.seconds >= spec.max_seconds:
                break
            loss, norm = self._update(here.step)
            total += loss
            here.step += 1
            since += 1
            here.seconds = time.perf_counter() - began
            if here.step % spec.log_every == 0:
                now = time.perf_counter()
                rate = since * spec.batch_size / (now - before)
                self._log(total / since, norm, rate, progress)
                total, since, before = torch.zeros_like(total), 0, now
            if self._run.directory is not None and here.step % spec.checkpoint_every == 0:
                self._checkpoint()
        if since:
            rate = since * spec.batch_size / (time.perf_counter() - before)
            self._log(total / since, norm, rate, progress)

    def _update(self, step: int) -> tuple[Tensor, Tensor]:
        """One update; the mean loss and the norm of the gradient, still on the device."""
        spec = self._spec
        torch.manual_seed(mix(self._seed, "dropout", step))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(step, spec)
        batch, uniform, noise = self._batch(step)
        record = self._system(batch, uniform, noise, step)
        loss: Tensor = record.values.mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        limit = float("inf") if spec.clip_norm is None else spec.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self._weights, limit)
        self._optimizer.step()
        if self._average is not None and spec.ema_decay is not None:
            decay = ema_decay(step, spec.ema_decay)
            ema_update(_floats(self._average), _floats(self._system), decay)
        return loss.detach(), norm

    def _batch(self, step: int) -> tuple[Batch, Tensor, BatchNoise]:
        size = self._spec.batch_size
        read = self._dataset.batch(self._order.rows(step * size, size))
        host = torch.Generator().manual_seed(mix(self._seed, "times", step))
        uniform = torch.rand(size, generator=host, dtype=torch.float64)
        x_0 = read.x_0
        if self._spec.horizontal_flip:
            mirrored = torch.rand(size, generator=host) < 0.5
            x_0 = torch.where(mirrored.reshape(-1, *[1] * (x_0.ndim - 1)), x_0.flip(-1), x_0)
        condition = {k: v.to(self._device, non_blocking=True) for k, v in read.condition.items()}
        batch = Batch(x_0.to(self._device, non_blocking=True), condition)
        noise = BatchNoise(
            seed=self._seed, step=step, rows=range(size), total=size, device=self._device
        )
        return batch, uniform, noise

    def _log(self, loss: Tensor, norm: Tensor, rate: float, progress: Progress) -> None:
        spec, here = self._spec, self.progressed
        metrics = {
            "step": here.step,
            "loss": float(loss),
            "grad_norm": float(norm),
            "learning_rate": learning_rate(here.step - 1, spec),
            "images_per_second": round(rate, 1),
            "seconds": round(here.seconds, 3),
        }
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {metrics['loss']} around update {here.step}. Likely causes: a "
                "learning rate that is too high (lower training.learning_rate or set "
                "training.clip_norm), or data with values that are not finite"
            )
        if self._run.directory is not None:
            append_metrics(self._run.directory, metrics)
        for sink in self._sinks:
            sink(here.step, metrics)
        self._events.step(self._run, here.step, metrics)
        done = here.step / spec.steps
        if spec.max_seconds is not None:
            done = max(done, here.seconds / spec.max_seconds)
        progress.update(done, f"loss {metrics['loss']:.4f}  {rate:.0f} images/s")

    def _checkpoint(self) -> None:
        assert self._run.directory is not None
        tensors = {"model": dict(self._system.state_dict())}
        if self._average is not None:
            tensors["ema"] = dict(self._average.state_dict())
        state = self._optimizer.state_dict()
        tensors["optimizer"] = {
            f"{index}.{name}": value
            for index, named in state["state"].items()
            for name, value in named.items()
        }
        progress = {
            "step": self.progressed.step,
            "seconds": self.progressed.seconds,
            "groups": state["param_groups"],
        }
        path = write_checkpoint(
            self._run.directory, self.progressed.step, tensors, progress, self._spec.keep
        )
        self._events.checkpoint(self._run, self.progressed.step, path)


def learning_rate(step: int, spec: TrainingSpec) -> float:
    """The rate of update number `step`, counted from 0: a linear rise, then constant."""
    if step >= spec.warmup_steps:
        return spec.learning_rate
    return spec.learning_rate * (step + 1) / (spec.warmup_steps + 1)


def restore(system: System, path: Path) -> None:
    """Load the weights in a file into a system. Raises CheckpointError where they do not fit."""
    system.load_state_dict(fit_tensors(read_tensors(path), system.state_dict(), path))


def _optimizer(spec: TrainingSpec, weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    options: dict[str, Any] = {
        "lr": spec.learning_rate,
        "betas": spec.betas,
        "weight_decay": spec.weight_decay,
        "fused": True,
    }
    if spec.optimizer == "adam":
        return torch.optim.Adam(weights, **options)
    return torch.optim.AdamW(weights, **options)


def _floats(system: System) -> list[Tensor]:
    return [t for t in (*system.parameters(), *system.buffers()) if t.is_floating_point()]
