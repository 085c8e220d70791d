"""One update of the weights. Everything random in update n is a function of the seed and of n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffkit.assembly.prepared_data import prepared
from diffkit.assembly.range_check import RangeChecked
from diffkit.assembly.system import System
from diffkit.assembly.training import TrainingComponents
from diffkit.config.spec import TrainingSpec
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Loss
from diffkit.core.process import GaussianProcess
from diffkit.core.random_state import sole_use
from diffkit.distributed.world import World
from diffkit.errors import ComponentError, SpecError, TrainingError
from diffkit.storage.optimizer_state import OptimizerState
from diffkit.training.average import AverageDenoiser, Followers
from diffkit.training.draws import Draws
from diffkit.training.in_order import in_order
from diffkit.training.learned_times import LearnedTimes
from diffkit.training.loader import loader_for
from diffkit.training.loss_record import checked_record
from diffkit.training.optimizer import Updates


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
    weights, nor the optimiser's state.

    Args:
        system: what is trained.
        averages: what follows it, by full name; the first is shown to the loss.
        components: what makes the updates.
        dataset, spec, seed: where batches come from, how to train, what is random.
        world: who shares the work.
        steps: how many updates there will be in all, beside those of `spec`.
    """

    def __init__(
        self,
        *,
        system: System,
        averages: Mapping[str, System],
        components: TrainingComponents,
        dataset: Dataset,
        spec: TrainingSpec,
        seed: int,
        world: World,
        steps: int | None = None,
    ) -> None:
        _check_shared(spec, world)
        self._spec, self._world = spec, world
        self._steps = spec.steps if steps is None else steps
        self.learned_times = LearnedTimes(system.parts.times, system.parts.schedule, world)
        trained = trainable(system)
        self._module: nn.Module = world.prepared(system)
        self._average = next(iter(averages.values()), None)
        self.names, self.weights = list(trained), list(trained.values())
        self._loss = system.parts.loss
        self.whole = True
        """Whether weights, optimiser and average are all of one update, which was counted: whoever
        counts says so."""
        device = self.weights[0].device
        read = prepared(dataset, system.parts)
        gaussian = isinstance(system.parts.process, GaussianProcess)
        looked = RangeChecked(dataset=read, data_range=system.parts.data_range, numbers=gaussian)
        self._loader = loader_for(looked, seed, device, streams=in_order(dataset))
        self._draws = Draws(system, spec, components.augmentations, seed, device)
        self.updates = Updates(components, trained, spec.warmup_steps)
        self._followers = Followers(components, averages, system, world.local_shard)

    def make(self, step: int) -> StepResult:
        """Update number `step`, from 0, of this process's rows; nothing is read on the host.

        Layers draw from the process's generator, which nobody else may meanwhile.
        """
        with sole_use():
            return self._make(step)

    def _make(self, step: int) -> StepResult:
        spec, rows = self._spec, self._world.rows(self._spec.batch_size)
        self.updates.set_rate(step, self._steps)
        self.updates.optimizer.zero_grad(set_to_none=True)
        size = len(rows) // spec.accumulate
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        # Where the samples after those of each part are, in the order of the data.
        places = [step * spec.batch_size + part.start for part in parts]
        places.append(places[0] + spec.batch_size)
        means = []
        for part, then in zip(parts, places[1:], strict=True):
            self._draws.seed_layers(step, part.start)
            last = part is parts[-1]
            with nullcontext() if last else self._world.no_sync(self._module):
                means.append(self._backward(part, then, step))
        limit = float("inf") if spec.clip_norm is None else spec.clip_norm
        norm = self._world.full_tensor(torch.nn.utils.clip_grad_norm_(self.weights, limit))
        self.whole = False
        self.updates.apply(norm)
        self._followers.update(step)
        loss, *terms = (
            _mean([mean.get(name) for mean in means], name, self._loss) for name in means[0]
        )
        if other := {name for mean in means for name in mean} - means[0].keys():
            raise _other_terms(self._loss, sorted(other)[0])
        return StepResult(loss, norm, dict(zip(list(means[0])[1:], terms, strict=True)))

    def rate(self, step: int) -> float:
        """The learning rate of update number `step`."""
        return self.updates.rate(step, self._steps)

    def load(self, found: OptimizerState, where: str | Path) -> None:
        """Take over an optimiser's state. Raises CheckpointError where it does not fit."""
        self.updates.slots.load(found, where, self._world.placed_like)

    def _backward(self, rows: range, then: int, step: int) -> dict[str, Tensor]:
        """The mean loss, and then those of its terms, on the device."""
        size = self._spec.batch_size
        read = self._loader.take(step * size + rows.start, len(rows), then)
        batch, share, noise = self._draws.of(read, rows, size, step, self.learned_times.learned)
        average = None if self._average is None else AverageDenoiser(self._average, batch.condition)
        given = self._module(batch, share, noise, step, average, self._steps)
        record = checked_record(given, len(batch), self._loss)
        self.learned_times.add(step * size + rows.start, record)
        loss = record.values.mean()
        # A loss that is not finite makes the whole gradient so, in every process.
        marked = loss * (1.0 + 0.0 * loss.detach())
        (marked / self._spec.accumulate).backward()  # type: ignore[no-untyped-call]
        terms = {name: value.detach().mean() for name, value in record.terms.items()}
        return {"loss": loss.detach(), **{f"loss/{name}": term for name, term in terms.items()}}


def _check_shared(spec: TrainingSpec, world: World) -> None:
    """Raise SpecError where not every process has as many rows, and every micro-batch."""
    share = world.count * spec.accumulate
    if spec.batch_size % share:
        raise SpecError(
            [
                f"training.batch_size = {spec.batch_size} cannot be shared by {world.count} "
                f"processes in {spec.accumulate} micro-batches each; take a multiple of {share}"
            ]
        )


def trainable(system: System) -> dict[str, nn.Parameter]:
    """The weights that train, by name. Raises TrainingError where there are none."""
    trained = {n: p for n, p in system.named_parameters() if p.requires_grad}
    if not trained:
        raise TrainingError(
            f"{type(system.parts.model).__name__} has no weights that train, and neither has "
            "anything else here: all are frozen, or there are none; nothing was done"
        )
    return trained


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
