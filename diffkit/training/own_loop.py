"""Updates in a loop of one's own: what `Pipeline.train` draws and averages, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from diffkit.assembly.conditions import prepared_conditions
from diffkit.assembly.modules import refuse_divided, twin
from diffkit.assembly.network import without_autocast
from diffkit.assembly.training import TrainingComponents
from diffkit.config.spec import PipelineSpec
from diffkit.core.encoder import Given
from diffkit.core.loss import Batch, LossRecord
from diffkit.core.random_state import generators_restored, sole_use
from diffkit.distributed.world import world_of
from diffkit.errors import ComponentError, DataError
from diffkit.storage.weights import Weights
from diffkit.training.average import AverageDenoiser, Followers
from diffkit.training.draws import Draws
from diffkit.training.learned_times import LearnedTimes
from diffkit.training.loss_record import checked_record
from diffkit.training.optimizer import Updates
from diffkit.training.train_step import trainable


class OwnLoop:
    """What one pipeline keeps between the updates of somebody's own loop.

    Args:
        weights: what is trained; an average is theirs once it is updated, so that none is sampled
            with that does not follow.
        components: what the spec says of averages, optimiser and learning rate.
        spec: the seed, and how to train.
    """

    def __init__(
        self, weights: Weights, components: TrainingComponents, spec: PipelineSpec
    ) -> None:
        system = weights.system
        self._weights, self._components, self._spec = weights, components, spec
        self._world = world_of(system.device)
        self._draws = Draws(
            system, spec.training, components.augmentations, spec.seed, system.device
        )
        parts = system.parts
        self._learned = LearnedTimes(parts.times, parts.schedule, self._world)
        if components.tracks():
            refuse_divided(
                system,
                "training.averages",
                "no average can follow them there: leave averages out (training.averages: {}), or "
                "let Pipeline.train divide the weights",
            )
        self._averages = {
            name: weights.averages.get(name) or twin(system).requires_grad_(False)
            for name in components.tracks()
        }
        self._followers = Followers(components, self._averages, system, self._world.local_shard)
        self._next = weights.steps
        self._updates: Updates | None = None

    def loss(
        self, x_0: Tensor, condition: Given | None, step: int | None, module: nn.Module | None
    ) -> LossRecord:
        """The losses of these rows, at the times and noise of an update."""
        system = self._weights.system
        if x_0.ndim < 1 or tuple(x_0.shape[1:]) != system.parts.shape or not len(x_0):
            raise DataError(
                f"x_0 has the shape {list(x_0.shape)}, and a batch for this pipeline has "
                f"{['b', *system.parts.shape]}".replace("'", "")
            )
        trains = torch.is_grad_enabled()
        number = self._next if step is None else step
        if trains:
            self._learned.hand_over(number)
            self._next = number + 1
        first = self._world.rank * len(x_0)
        rows, total = range(first, first + len(x_0)), self._world.count * len(x_0)
        told = prepared_conditions(condition or {}, system.parts, len(x_0))
        placed = (
            {n: v.to(system.device) for n, v in c.items()} for c in (told.condition, told.given)
        )
        read = Batch(x_0.to(system.device), *placed)
        drawn = self._draws.of(read, rows, total, number, self._learned.learned)
        called = system if module is None else module
        called.train(trains)
        with sole_use(), generators_restored(system.device), without_autocast(system.device):
            self._draws.seed_layers(number, first)
            average = next(iter(self._averages.values()), None)
            denoiser = None if average is None else AverageDenoiser(average, drawn[0].condition)
            record = called(*drawn, number, denoiser, self._spec.training.steps)
        record = checked_record(record, len(x_0), system.parts.loss, with_gradient=trains)
        if trains:
            self._learned.add(number * total + first, record)
        return replace(record, step=number)

    def update_average(self) -> None:
        """Have every average follow; counts an update.

        Raises ComponentError where the system's weights are others than when it began.
        """
        if self._averages and not self._followers.follow(self._weights.system):
            raise ComponentError(
                "update_average: weights of pipeline.system are other tensors than at the first "
                "pipeline.loss, so that averages would follow the old ones; change layers and "
                "divide weights (fully_shard) before it"
            )
        self._followers.update(self._weights.steps)
        self._weights.averages = dict(self._averages)
        self._weights.steps += 1
        self._weights.continuation = None

    def optimizer(self) -> torch.optim.Optimizer:
        """The spec's, of all weights that train; `lr` is a multiple of the learning rate."""
        return self._made_updates().optimizer

    def learning_rate(self, step: int) -> float:
        """Of update number `step`, with its warm-up."""
        return self._made_updates().rate(step, max(1, self._spec.training.steps))

    def _made_updates(self) -> Updates:
        if self._updates is None:
            named = trainable(self._weights.system)
            self._updates = Updates(self._components, named, self._spec.training.warmup_steps)
        return self._updates
