"""Mirrored pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor

from diffkit.core.augmentation import Augmentation, each_picture, picture_problems
from diffkit.core.component import Config, Facts
from diffkit.core.loss import Batch
from diffkit.core.noise import Noise


class Flip(Augmentation):
    """Mirrors a picture left to right, and with it the conditions that are pictures.

    Args:
        probability: how often.
    """

    def __init__(self, *, probability: Annotated[float, Gt(0), Le(1)] = 0.5) -> None:
        self._probability = probability

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Pictures."""
        yield from picture_problems(facts)

    def __call__(self, batch: Batch, noise: Noise, pictures: tuple[str, ...]) -> Batch:
        """The same numbers, in another order."""
        where = (noise.uniform((len(batch), 1)) < self._probability)[:, :, None, None]

        def mirrored(picture: Tensor) -> Tensor:
            return torch.where(where, picture.flip(-1), picture)

        return each_picture(batch, pictures, mirrored)
