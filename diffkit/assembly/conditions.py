"""Conditions on their way from people and datasets to the encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from diffkit.assembly.components import Components
from diffkit.core.dataset import Dataset
from diffkit.core.encoder import Encoder, Given
from diffkit.core.loss import Batch
from diffkit.core.model import Condition
from diffkit.core.noise import mix
from diffkit.core.text import TEXT_LENGTH, as_text
from diffkit.errors import ComponentError, DataError, SpecError


class Prepared(Dataset):
    """A dataset whose conditions an encoder has prepared, on the host, as they are read."""

    def __init__(self, *, dataset: Dataset, encoder: Encoder, taken: tuple[str, ...]) -> None:
        self._dataset, self._encoder, self._taken = dataset, encoder, taken

    @property
    def shape(self) -> tuple[int, ...]:
        """The dataset's."""
        return self._dataset.shape

    @property
    def range(self) -> tuple[float, float] | None:
        """The dataset's."""
        return self._dataset.range

    def __len__(self) -> int:
        return len(self._dataset)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples, with prepared conditions. Raises DataError where one is not there."""
        read = self._dataset.batch(indices)
        if missing := [name for name in self._taken if name not in read.condition]:
            raise DataError(
                f"the encoder takes {', '.join(missing)}, and the dataset "
                f"{type(self._dataset).__name__} gives "
                f"{', '.join(read.condition) or 'no conditions'}; configure the dataset so that "
                "it does, or take another encoder"
            )
        taken = {name: read.condition[name] for name in self._taken}
        return Batch(read.x_0, self._encoder.prepare(taken))


def check_data(dataset: Dataset, parts: Components) -> None:
    """Raise DataError where samples are not of the shape or the range that a pipeline is for."""
    if tuple(dataset.shape) != parts.sample_shape:
        raise DataError(
            f"the dataset has samples of the shape {list(dataset.shape)}, and the pipeline was "
            f"built for {list(parts.sample_shape)}; give data of that shape, or set data.shape"
        )
    wanted, declared = parts.sample_range, dataset.range
    if declared is not None and wanted is not None and tuple(declared) != tuple(wanted):
        raise DataError(
            f"the dataset has samples in {list(declared)}, and the pipeline was built for "
            f"{list(wanted)}; give data in that range"
        )


def prepared(dataset: Dataset, parts: Components) -> Dataset:
    """The dataset as training reads it."""
    if parts.encoder is None:
        return dataset
    return Prepared(dataset=dataset, encoder=parts.encoder, taken=parts.taken)


def conditions_of(given: Given, parts: Components, also: tuple[str, ...] = ()) -> Condition:
    """What was given for a trajectory, prepared; without anything, what stands for no condition.

    `also` are the names of those that guidance takes.

    Raises:
        SpecError: the names are not those that are taken.
        DataError: a value is none that the encoder knows.
    """
    encoder = parts.encoder
    none = {name: torch.zeros(1, *shape) for name, shape in parts.added.items()}
    if encoder is not None and not given:
        return {**none, **encoder.null(1)}
    wanted = {*parts.taken, *also}
    if set(given) - parts.added.keys() != wanted:
        raise SpecError(
            [
                f"the conditions taken are: {', '.join(sorted(wanted)) or 'none'}; "
                f"given: {', '.join(given) or 'none'}"
            ]
        )
    raw = {name: _as_tensor(name, value) for name, value in given.items()}
    if encoder is None:
        return {**none, **raw}
    told = encoder.prepare({name: raw[name] for name in parts.taken})
    beside = {name: raw[name] for name in (*also, *parts.added) if name in raw}
    return {**none, **beside, **told}


def prepared_conditions(given: Given, parts: Components, count: int) -> Condition:
    """Raw conditions of so many samples in training, as the encoder prepares a dataset's.

    Raises:
        SpecError: a value is no tensor, text or whole number.
        DataError: one that is taken is missing, or has not a row for each sample.
    """
    raw = {name: _as_tensor(name, value) for name, value in given.items()}
    if missing := [name for name in parts.taken if name not in raw]:
        raise DataError(
            f"condition: {', '.join(missing)} has to be given for training; given are: "
            f"{', '.join(raw) or 'none'}"
        )
    for name, value in raw.items():
        if value.ndim == 0 or len(value) != count:
            raise DataError(
                f"condition.{name} has the shape {list(value.shape)}, and there are {count} samples"
            )
    if parts.encoder is None:
        return raw
    return parts.encoder.prepare({name: raw[name] for name in parts.taken})


def drawn_conditions(dataset: Dataset, parts: Components, count: int, seed: int) -> Condition:
    """The raw conditions of so many of a dataset's samples, for samples to compare with them.

    Those that the network or its encoder takes, and those that the spec's guidance takes.
    """
    guidance = parts.guidance
    taken = [*parts.taken, *(() if guidance is None else guidance.takes)]
    if not taken:
        return {}
    host = torch.Generator().manual_seed(mix(seed, "conditions"))
    rounds = -(-count // len(dataset))
    order = torch.cat([torch.randperm(len(dataset), generator=host) for _ in range(rounds)])
    found = dataset.batch(order[:count].tolist()).condition
    if missing := [name for name in taken if name not in found]:
        raise DataError(f"samples need the conditions {', '.join(missing)}; the dataset has none")
    return {name: found[name] for name in taken}


def rows_of(condition: Condition, count: int) -> dict[str, Tensor]:
    """One row repeated for each of so many samples; or their rows, as they are.

    Raises ComponentError where they are of another number.
    """
    for name, value in condition.items():
        if len(value) not in (1, count):
            raise ComponentError(
                f"condition.{name} has {len(value)} rows, and {count} samples are asked about; "
                "give a row for each of them, or one for all"
            )
    return {name: value.expand(count, *value.shape[1:]) for name, value in condition.items()}


def _as_tensor(name: str, value: Tensor | str | int | Sequence[str] | Sequence[int]) -> Tensor:
    if isinstance(value, Tensor):
        return value
    items: list[Any] = [value]
    if isinstance(value, Iterable) and not isinstance(value, str):
        items = list(value)
    if items and all(isinstance(item, str) for item in items):
        texts = [str(item) for item in items]
        # What is too long for an encoder, the encoder cuts off.
        return as_text(texts, max(TEXT_LENGTH, *(len(text.encode()) for text in texts)))
    if items and all(isinstance(item, Integral) for item in items):
        return torch.tensor([int(item) for item in items])
    raise SpecError([f"condition.{name} is a tensor, texts or whole numbers, one or a list"])
