"""Augmentations of a batch of training, and which of its conditions are pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from diffkit.core.augmentation import Augmentation
from diffkit.core.data import Conditions
from diffkit.core.loss import Batch
from diffkit.core.noise import BatchNoise, mix
from diffkit.errors import ComponentError, DataError

_GIVEN = "given."


def augmented(
    batch: Batch,
    augmentations: Sequence[Augmentation],
    seed: int,
    step: int,
    rows: range,
    total: int,
    declared: Conditions | None = None,
) -> Batch:
    """The batch of these rows, of `total`, changed by each in turn, and what the process and the
    loss read of it too. `declared` is what the dataset says of its conditions.

    Raises:
        ComponentError: one gives no batch of the same shape.
        DataError: whether a condition is a picture cannot be told.
    """
    if not augmentations:
        return batch
    device = batch.x_0.device
    beside = {f"{_GIVEN}{name}": value for name, value in batch.given.items()}
    names, batch = tuple(batch.given), Batch(batch.x_0, {**batch.condition, **beside})
    for place, augmentation in enumerate(augmentations):
        own = mix(seed, "augmentation", place)
        noise = BatchNoise(seed=own, step=step, rows=rows, total=total, device=device)
        given = augmentation(batch, noise, pictures_of(batch, declared))
        batch = _checked(given, batch, f"augmentation: {type(augmentation).__name__}")
    condition = dict(batch.condition)
    read = {name: condition.pop(f"{_GIVEN}{name}") for name in names}
    return Batch(batch.x_0, condition, read)


def pictures_of(batch: Batch, declared: Conditions | None = None) -> tuple[str, ...]:
    """The conditions that are pictures of the sample's height and width, whatever their channels.

    As they are declared, or by their shape.

    Raises:
        DataError: a condition may be such a picture without channels; nothing tells.
    """
    size = tuple(batch.x_0.shape[2:])
    return tuple(
        name
        for name, value in batch.condition.items()
        if _is_of(name.removeprefix(_GIVEN), tuple(value.shape), size, declared)
    )


def _is_of(
    name: str, shape: tuple[int, ...], size: tuple[int, ...], declared: Conditions | None
) -> bool:
    if declared is not None and name in declared:
        return declared[name].picture and shape[-2:] == size
    if len(size) != 2 or len(shape) < 3 or shape[-2:] != size:
        return False
    if len(shape) != 4:
        raise DataError(
            f"training.augmentations: the condition {name} has the shape {list(shape[1:])} and "
            f"the height and width of the pictures, {list(size)}, and whether it has to be "
            "changed with them is not known; give it the shape of a picture, [c, h, w], or leave "
            "the augmentations out"
        )
    return True


def _checked(given: object, before: Batch, name: str) -> Batch:
    if not isinstance(given, Batch):
        raise ComponentError(f"{name} gives a {type(given).__name__}, and not a Batch")
    if given.x_0.shape != before.x_0.shape or given.x_0.dtype != torch.float32:
        raise ComponentError(
            f"{name} gives {given.x_0.dtype} samples of {list(given.x_0.shape)}, and was given "
            f"torch.float32 of {list(before.x_0.shape)}"
        )
    if wrong := [n for n, value in given.condition.items() if len(value) != len(before)]:
        raise ComponentError(f"{name} gives {wrong[0]} with another number of rows")
    return given
