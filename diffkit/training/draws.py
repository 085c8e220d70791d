"""What is random in an update: a function of the seed, of the update's number and of the row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffkit.assembly.incompatibilities import dropout_problem
from diffkit.assembly.system import BatchSlice, System
from diffkit.config.spec import TrainingSpec
from diffkit.core.augmentation import Augmentation
from diffkit.core.loss import Batch
from diffkit.core.noise import BatchNoise, mix
from diffkit.core.times import TimesState
from diffkit.errors import SpecError
from diffkit.training.augment import augmented

_CONDITION_DROPOUT = 0.1
"""Ho & Salimans (2022), table 1: between 0.1 and 0.2 is best."""


class Draws:
    """Draws for `Pipeline.train` and for loops of one's own.

    Args:
        system: what is trained.
        spec: how often conditions are dropped.
        augmentations: what is changed of batches first.
        seed: of everything.
        device: where batches are.
    """

    def __init__(
        self,
        system: System,
        spec: TrainingSpec,
        augmentations: Sequence[Augmentation],
        seed: int,
        device: torch.device,
    ) -> None:
        encoder = system.parts.encoder
        if problem := dropout_problem(spec.condition_dropout, encoder is not None):
            raise SpecError([problem])
        self._augmentations, self._seed, self._device = augmentations, seed, device
        rate = _CONDITION_DROPOUT if spec.condition_dropout is None else spec.condition_dropout
        self._dropout = 0.0 if encoder is None else rate
        null = {} if encoder is None else encoder.null(1)
        self._null = {name: value.to(device) for name, value in null.items()}

    def of(
        self, read: Batch, rows: range, total: int, step: int, learned: TimesState
    ) -> tuple[Batch, BatchSlice, BatchNoise]:
        """For these rows, of `total`, of update number `step`: the batch, times and noise."""
        read = augmented(read, self._augmentations, self._seed, step, rows, total)
        host = torch.Generator().manual_seed(mix(self._seed, "times", step))
        uniform = torch.rand(total, generator=host, dtype=torch.float64)
        noise = BatchNoise(seed=self._seed, step=step, rows=rows, total=total, device=self._device)
        share = BatchSlice(uniform, rows, learned, mix(self._seed, "uniform", step))
        x_0, condition = read.x_0, read.condition
        if self._dropout:
            drawn = torch.rand(total, generator=host)[rows.start : rows.stop]
            dropped = (drawn < self._dropout).to(x_0.device, non_blocking=True)
            condition = {
                name: self._dropped(name, value, dropped) for name, value in condition.items()
            }
        return Batch(x_0, condition), share, noise

    def _dropped(self, name: str, value: Tensor, dropped: Tensor) -> Tensor:
        """What stands for none where a condition is dropped; added ones have none."""
        if name not in self._null:
            return value
        where = dropped.reshape(-1, *[1] * (value.ndim - 1))
        return torch.where(where, self._null[name], value)

    def seed_layers(self, step: int, row: int) -> None:
        """Seed the generator that layers draw from on this device, for rows from this one on.

        `torch.manual_seed` also sets those of devices that are not in use, by a queue that grows
        at every call until they are.
        """
        # Row 0's name is left out, so that runs are what they were before there were shares.
        seed = mix(self._seed, "dropout", step, *([row] if row else []))
        if self._device.type == "cuda":
            index = self._device.index or torch.cuda.current_device()
            torch.cuda.default_generators[index].manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
