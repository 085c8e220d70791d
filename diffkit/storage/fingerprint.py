"""Telling data from other data by some of their samples, and autoencoders by their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffkit.assembly.latents import LatentSpace, bytes_of
from diffkit.assembly.range_check import RangeChecked
from diffkit.core.dataset import Dataset
from diffkit.core.stream import Stream
from diffkit.errors import CheckpointError
from diffkit.helpers.files import read_json
from diffkit.storage.run_directory import TRAINER

DATA, AUTOENCODER = "data", "autoencoder"
"""The keys of a checkpoint."""
_LOOKED_AT = 16
"""Samples whose bytes tell one dataset from another."""


def samples_digest(dataset: Dataset) -> str:
    """SHA-256 of the length, and of some samples with their conditions; of a stream, whose samples
    may come but once, of what it declares.
    """
    if isinstance(dataset, Stream):
        return hashlib.sha256(repr(_declared(dataset)).encode()).hexdigest()
    length = len(dataset)
    found = hashlib.sha256(str(length).encode())
    count = min(_LOOKED_AT, length)
    rows = [i * (length - 1) // max(count - 1, 1) for i in range(count)]
    read = RangeChecked(dataset=dataset, data_range=None, numbers=False).batch(rows)
    for name, value in sorted({"": read.x_0, **read.condition}.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(bytes_of(value))
    return found.hexdigest()


def _declared(dataset: Dataset) -> tuple[object, ...]:
    conditions = sorted((dataset.conditions or {}).items())
    return (
        tuple(dataset.shape),
        dataset.range,
        dataset.dtype,
        dataset.vocabulary,
        [(name, str(info)) for name, info in conditions],
    )


def described(latents: LatentSpace | None) -> dict[str, Any]:
    """What a checkpoint says of what its weights were made with, beside the spec."""
    return {} if latents is None else {AUTOENCODER: latents.digest()}


def of_data(dataset: Dataset) -> dict[str, Any]:
    """What a checkpoint says of its data."""
    return {DATA: {"samples": _length(dataset), "sha256": samples_digest(dataset)}}


def _length(dataset: Dataset) -> int | None:
    return None if isinstance(dataset, Stream) else len(dataset)


def has_data(checkpoint: Path, dataset: Dataset) -> bool:
    """Whether a checkpoint was trained on this very data, as far as some samples tell."""
    return bool(read_json(checkpoint / TRAINER).get(DATA) == of_data(dataset)[DATA])


def check_autoencoder(checkpoint: Path, latents: LatentSpace) -> None:
    """Raise CheckpointError where weights were trained in the latents of another autoencoder."""
    recorded: Mapping[str, Any] = read_json(checkpoint / TRAINER)
    if recorded.get(AUTOENCODER) != latents.digest():
        raise CheckpointError(
            f"{checkpoint} was trained in the latents of another autoencoder than the one that its "
            "spec names now: its weights or what they are made of changed; restore that one, or "
            "train again with this one"
        )
