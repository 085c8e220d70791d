"""Mirrored pictures, and what is mirrored with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffkit.core.loss import Batch
from diffkit.errors import DataError


def mirrored(batch: Batch, chosen: Tensor) -> Batch:
    """The pictures `[b, c, h, w]` that are chosen, `[b]` on the host, mirrored left to right.

    A condition that is a picture of the same height and width, whatever its channels, is of the
    same scene, and is mirrored with its sample.

    Raises:
        DataError: a condition may be such a picture without channels; nothing tells.
    """
    x_0 = batch.x_0
    where = chosen.to(x_0.device, non_blocking=True).reshape(-1, 1, 1, 1)

    def turned(picture: Tensor) -> Tensor:
        return torch.where(where, picture.flip(-1), picture)

    condition, given = (
        {
            name: turned(value) if _is_of(name, value.shape, x_0.shape[2:]) else value
            for name, value in told.items()
        }
        for told in (batch.condition, batch.given)
    )
    return Batch(turned(x_0), condition, given)


def _is_of(name: str, shape: Sequence[int], size: Sequence[int]) -> bool:
    """Whether a condition is a picture of this height and width."""
    if len(shape) < 3 or tuple(shape[-2:]) != tuple(size):
        return False
    if len(shape) != 4:
        raise DataError(
            f"training.horizontal_flip: the condition {name} has the shape {list(shape[1:])} and "
            f"the height and width of the pictures, {list(size)}, and whether it has to be "
            "mirrored with them is not known; give it the shape of a picture, [c, h, w], or leave "
            "horizontal_flip out"
        )
    return True
