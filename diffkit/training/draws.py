"""What is random in an update: a function of the seed, of the update's number and of the row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from diffkit.assembly.system import BatchSlice, System
from diffkit.config.spec import TrainingSpec
from diffkit.core.augmentation import Augmentation
from diffkit.core.loss import Batch
from diffkit.core.noise import BatchNoise, mix
from diffkit.core.times import TimesState
from diffkit.training.augment import augmented
from diffkit.training.condition_dropout import ConditionDropout


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
        self._augmentations, self._seed, self._device = augmentations, seed, device
        self._declared = system.parts.flow.declared
        self._dropout = ConditionDropout(spec.condition_dropout, system.parts, seed, device)

    def of(
        self, read: Batch, rows: range, total: int, step: int, learned: TimesState
    ) -> tuple[Batch, BatchSlice, BatchNoise]:
        """For these rows, of `total`, of update number `step`: the batch, times and noise."""
        read = augmented(read, self._augmentations, self._seed, step, rows, total, self._declared)
        host = torch.Generator().manual_seed(mix(self._seed, "times", step))
        uniform = torch.rand(total, generator=host, dtype=torch.float64)
        noise = BatchNoise(seed=self._seed, step=step, rows=rows, total=total, device=self._device)
        share = BatchSlice(uniform, rows, learned, mix(self._seed, "uniform", step))
        condition = self._dropout(read.condition, rows, total, step, host)
        return Batch(read.x_0, condition, read.given), share, noise

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
