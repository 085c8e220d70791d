"""Augmentation: what is changed of a batch in training, at random."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from torch import Tensor

from diffkit.core.component import Component, Facts
from diffkit.core.data import PICTURE_CHANNELS, is_picture
from diffkit.core.loss import Batch
from diffkit.core.noise import Noise


class Augmentation(Component):
    """Changes batches as they are read, before conditions are dropped and encoded.

    The fact `adds` has the shape of each condition that it adds, by name, without rows: the network
    takes it, and is given zeros in sampling.
    """

    kind: ClassVar[str] = "augmentation"

    @abstractmethod
    def __call__(self, batch: Batch, noise: Noise, pictures: tuple[str, ...]) -> Batch:
        """The batch, changed: of as many samples and the same shape; nothing is written to.

        A row depends on what is in it and on its own numbers of `noise`, which are drawn for every
        row alike. `pictures` names the conditions that are pictures of the same scene and size.
        """


def picture_problems(facts: Facts) -> Iterable[str]:
    """Why the data are no pictures that can be changed; for `requires`."""
    shape = facts.get("data.shape", ())
    if facts.get("data.latents"):
        yield (
            "latents are computed once, of every image as it is, and a latent changed is not the "
            "latent of the image changed; leave it out, or put changed images into the dataset"
        )
    elif not is_picture(shape):
        channels = " or ".join(map(str, PICTURE_CHANNELS))
        yield (
            f"samples of the shape {list(shape)} are no pictures, which are (c, h, w) with "
            f"{channels} channels; leave it out"
        )


def each_picture(
    batch: Batch, pictures: tuple[str, ...], change: Callable[[Tensor], Tensor]
) -> Batch:
    """The batch with its samples, and its conditions that are pictures, changed alike."""
    condition: Mapping[str, Tensor] = {
        name: change(value) if name in pictures else value
        for name, value in batch.condition.items()
    }
    return Batch(change(batch.x_0), dict(condition))
