"""One update of the weights. Everything random in update n is a function of the seed and of n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffkit.assembly.conditions import prepared
from diffkit.assembly.range_check import RangeChecked
from diffkit.assembly.system import BatchSlice, System
from diffkit.config.spec import TrainingSpec
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch, Loss
from diffkit.core.noise import BatchNoise, mix
from diffkit.core.process import GaussianProcess
from diffkit.core.random_state import sole_use
from diffkit.distributed.world import World
from diffkit.errors import ComponentError, SpecError, TrainingError
from diffkit.functional.ema import ema_decay
from diffkit.storage.checkpoint import load_optimizer
from diffkit.training.average import AverageDenoiser, MovingAverage
from diffkit.training.condition_dropout import ConditionDropout
from diffkit.training.horizontal_flip import mirrored
from diffkit.training.learned_times import LearnedTimes
from diffkit.training.loader import loader_for
from diffkit.training.loss_record import checked_record


class StepResult(NamedTuple):
    """What one update of one process gave, still on the device."""

    loss: Tensor
    norm: Tensor
    """Of the gradient."""
    terms: Mapping[str, Tensor]
    """The parts of the loss that it reports, as `loss/<name>`."""


class TrainStep:
    """Makes one update after another.

    A global batch of `batch_size` rows is shared by the processes, and each takes its share in
    `accumulate` micro-batches. What is drawn for a row does not depend on who computes it,
    dropout aside. An update whose loss or gradient is not finite changes nothing: neither the
    weights, nor the optimiser's state, nor, therefore, the average. That is decided on the device.
    """

    def __init__(
        self,
        *,
        system: System,
        average: System | None,
        dataset: Dataset,
        spec: TrainingSpec,
        seed: int,
        world: World,
    ) -> None:
        share = world.count * spec.accumulate
        if spec.batch_size % share:
            raise SpecError(
                [
                    f"training.batch_size = {spec.batch_size} cannot be shared by "
                    f"{world.count} processes in {spec.accumulate} micro-batches each; take a "
                    f"multiple of {share}"
                ]
            )
        self._spec, self._seed, self._world = spec, seed, world
        self.learned_times = LearnedTimes(system.parts.times, system.parts.schedule, world)
        trained = {n: p for n, p in system.named_parameters() if p.requires_grad}
        if not trained:
            raise TrainingError(
                f"{type(system.parts.model).__name__} has no weights that train, and neither has "
                "anything else here: all are frozen, or there are none; nothing was done"
            )
        self._module: nn.Module = world.prepared(system)
        self._average = average
        self.names, self.weights = list(trained), list(trained.values())
        self._loss = system.parts.loss
        self.whole = True
        """Whether weights, optimiser and average are all of one update, which was counted: whoever
        counts says so."""
        self._device = self.weights[0].device
        read = prepared(dataset, system.parts)
        gaussian = isinstance(system.parts.process, GaussianProcess)
        looked = RangeChecked(dataset=read, data_range=system.parts.data_range, numbers=gaussian)
        self._loader = loader_for(looked, seed, self._device)
        self._dropout = ConditionDropout(spec.condition_dropout, system.parts, seed, self._device)
        self.optimizer = optimizer(spec, self.weights)
        self._moving_average = (
            None if average is None else MovingAverage(average, system, world.local_shard)
        )

    def make(self, step: int) -> StepResult:
        """Update number `step`, from 0, of this process's rows; nothing is read on the host.

        Layers draw from the process's generator, which nobody else may meanwhile.
        """
        with sole_use():
            return self._make(step)

    def _make(self, step: int) -> StepResult:
        spec, rows = self._spec, self._world.rows(self._spec.batch_size)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, spec)
        self.optimizer.zero_grad(set_to_none=True)
        size = len(rows) // spec.accumulate
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        # Where the samples after those of each part are, in the order of the data.
        places = [step * spec.batch_size + part.start for part in parts]
        places.append(places[0] + spec.batch_size)
        means = []
        for part, then in zip(parts, places[1:], strict=True):
            # Row 0's name is left out, so that runs are what they were before there were shares.
            row = [part.start] if part.start else []
            self._seed_dropout(mix(self._seed, "dropout", step, *row))
            last = part is parts[-1]
            with nullcontext() if last else self._world.no_sync(self._module):
                means.append(self._backward(part, then, step))
        limit = float("inf") if spec.clip_norm is None else spec.clip_norm
        norm = self._world.full_tensor(torch.nn.utils.clip_grad_norm_(self.weights, limit))
        # Fused optimisers look at this on the device, and then leave everything as it is.
        setattr(self.optimizer, "found_inf", (~norm.isfinite()).float())  # noqa: B010
        self.whole = False
        self.optimizer.step()
        if spec.ema_decay is not None and self._moving_average is not None:
            self._moving_average.update(ema_decay(step, spec.ema_decay))
        loss, *terms = (
            _mean([mean.get(name) for mean in means], name, self._loss) for name in means[0]
        )
        if other := {name for mean in means for name in mean} - means[0].keys():
            raise _other_terms(self._loss, sorted(other)[0])
        return StepResult(loss, norm, dict(zip(list(means[0])[1:], terms, strict=True)))

    def load(self, found: Mapping[str, Tensor], where: str | Path) -> None:
        """Take over an optimiser's state. Raises CheckpointError where it does not fit."""
        load_optimizer(self.optimizer, self.names, found, where, self._world.placed_like)

    def _seed_dropout(self, seed: int) -> None:
        """Of the generator that layers draw from on this device.

        `torch.manual_seed` also sets those of devices that are not in use, by a queue that grows
        at every call until they are.
        """
        if self._device.type == "cuda":
            index = self._device.index or torch.cuda.current_device()
            torch.cuda.default_generators[index].manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)

    def _backward(self, rows: range, then: int, step: int) -> dict[str, Tensor]:
        """The mean loss, and then those of its terms, on the device."""
        batch, share, noise = self._batch(rows, then, step)
        average = None if self._average is None else AverageDenoiser(self._average, batch.condition)
        given = self._module(batch, share, noise, step, average)
        record = checked_record(given, len(batch), self._loss)
        self.learned_times.add(step * self._spec.batch_size + rows.start, record)
        loss = record.values.mean()
        # A loss that is not finite makes the whole gradient so, in every process.
        marked = loss * (1.0 + 0.0 * loss.detach())
        (marked / self._spec.accumulate).backward()  # type: ignore[no-untyped-call]
        terms = {name: value.detach().mean() for name, value in record.terms.items()}
        return {"loss": loss.detach(), **{f"loss/{name}": term for name, term in terms.items()}}

    def _batch(self, rows: range, then: int, step: int) -> tuple[Batch, BatchSlice, BatchNoise]:
        size = self._spec.batch_size
        read = self._loader.take(step * size + rows.start, len(rows), then)
        host = torch.Generator().manual_seed(mix(self._seed, "times", step))
        uniform = torch.rand(size, generator=host, dtype=torch.float64)
        if self._spec.horizontal_flip:
            drawn = torch.rand(size, generator=host)[rows.start : rows.stop]
            read = mirrored(read, drawn < 0.5)
        noise = BatchNoise(seed=self._seed, step=step, rows=rows, total=size, device=self._device)
        share = BatchSlice(uniform, rows, self.learned_times.learned)
        condition = self._dropout(read.condition, rows, size, step, host)
        return Batch(read.x_0, condition, read.given), share, noise


def learning_rate(step: int, spec: TrainingSpec) -> float:
    """The rate of update number `step`, counted from 0: a linear rise, then constant."""
    if step >= spec.warmup_steps:
        return spec.learning_rate
    return spec.learning_rate * (step + 1) / (spec.warmup_steps + 1)


def optimizer(spec: TrainingSpec, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The fused optimiser that the spec names."""
    kind = torch.optim.Adam if spec.optimizer == "adam" else torch.optim.AdamW
    return kind(
        weights,
        lr=spec.learning_rate,
        betas=spec.betas,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def _mean(values: Sequence[Tensor | None], name: str, loss: Loss) -> Tensor:
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        raise _other_terms(loss, name)
    return there[0] if len(there) == 1 else torch.stack(there).mean()


def _other_terms(loss: Loss, name: str) -> ComponentError:
    return ComponentError(
        f"loss: {type(loss).__name__} gives {name} in some micro-batches and not in others; give "
        "the same terms always"
    )
