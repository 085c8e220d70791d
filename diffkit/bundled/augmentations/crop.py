"""Pictures moved by whole pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor
from torch.nn.functional import pad

from diffkit.core.augmentation import Augmentation, each_picture, picture_problems
from diffkit.core.component import Config, Facts
from diffkit.core.loss import Batch
from diffkit.core.noise import Noise


class Crop(Augmentation):
    """Pads each side and crops a window of the picture's own size, evenly anywhere.

    He et al. (2016), section 4.2: 4 pixels around pictures of 32.

    Args:
        padding: pixels on each side; less than the height and the width.
        mode: what stands in the padding: the picture reflected, or its edge.
    """

    def __init__(
        self,
        *,
        padding: Annotated[int, Gt(0)] = 4,
        mode: Literal["reflect", "replicate"] = "reflect",
    ) -> None:
        self._padding, self._mode = padding, mode

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Pictures that are larger than the padding."""
        problems = list(picture_problems(facts))
        yield from problems
        if not problems and config.padding >= min(facts["data.shape"][1:]):
            yield (
                f"padding is {config.padding}, and the pictures are of "
                f"{list(facts['data.shape'][1:])}; take less than the smaller side"
            )

    def __call__(self, batch: Batch, noise: Noise, pictures: tuple[str, ...]) -> Batch:
        """The same pixels, moved."""
        width, p = batch.x_0.shape[-1], self._padding
        moves = (noise.uniform((len(batch), 2)) * (2 * p + 1)).long().clamp(max=2 * p)
        rows = torch.arange(batch.x_0.shape[-2], device=moves.device) + moves[:, :1]
        columns = torch.arange(width, device=moves.device) + moves[:, 1:]

        def cropped(picture: Tensor) -> Tensor:
            padded = pad(picture.float(), (p, p, p, p), mode=self._mode).to(picture.dtype)
            tall = padded.gather(2, _expanded(rows[:, None, :, None], padded, 3))
            return tall.gather(3, _expanded(columns[:, None, None, :], tall, 2))

        return each_picture(batch, pictures, cropped)


def _expanded(indices: Tensor, picture: Tensor, other: int) -> Tensor:
    """Indices along one side, for every channel and for all of the `other` side."""
    shape = [len(indices), picture.shape[1], *indices.shape[2:]]
    shape[other] = picture.shape[other]
    return indices.expand(shape)
