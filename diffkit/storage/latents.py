"""The latents of a dataset: computed once, kept in files, and read instead of it.

FOLDER/latents-00000.safetensors   latents and conditions of the first samples, and so on
FOLDER/latents.json                what they were made of; written last, so that without it
                                   everything else is half written
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diffkit.arguments import expanded
from diffkit.assembly.encoded_data import Encoded
from diffkit.core.component import arguments_of
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.weights import tensor_bytes
from diffkit.distributed.world import World
from diffkit.errors import CheckpointError
from diffkit.helpers.files import check_writable_folder, read_json, write_file, write_json
from diffkit.helpers.lock import sole_writer
from diffkit.helpers.progress import bar
from diffkit.storage.fingerprint import samples_digest

FOLDER = "latents"
"""The folder in a run."""
MANIFEST = "latents.json"
_LATENT = "latent"
_CONDITION = "condition."
_VERSION = 1
_LOCK = ".latents.lock"
"""Of its own, as latents may lie in the very directory of the run that reads them."""
_ENCODED_AT_ONCE = 32
_SHARD_NAME = re.compile(r"latents-\d{5}\.safetensors")
_SHARD = 4096
"""Samples in a file."""
_log = logging.getLogger("diffkit")


class Kept(Dataset):
    """Latents and conditions that were computed before, a file of them at a time in memory maps."""

    def __init__(self, *, shards: Sequence[Mapping[str, Tensor]], shape: tuple[int, ...]) -> None:
        self._shards, self._shape = shards, shape
        self._starts = [0]
        for shard in shards:
            self._starts.append(self._starts[-1] + len(shard[_LATENT]))

    @property
    def shape(self) -> tuple[int, ...]:
        """That of a latent."""
        return self._shape

    def __len__(self) -> int:
        return self._starts[-1]

    def batch(self, indices: Sequence[int]) -> Batch:
        """The latents and conditions at these indices."""
        places = torch.searchsorted(
            torch.tensor(self._starts), torch.tensor(list(indices)), right=True
        )
        read = [
            {name: value[index - self._starts[place]] for name, value in shard.items()}
            for index, place in zip(indices, (places - 1).tolist(), strict=True)
            for shard in (self._shards[place],)
        ]
        whole = {name: torch.stack([row[name] for row in read]) for name in self._shards[0]}
        conditions = {
            name.removeprefix(_CONDITION): value
            for name, value in whole.items()
            if name.startswith(_CONDITION)
        }
        return Batch(whole[_LATENT], conditions)


def latents_for(
    encoded: Encoded,
    given: str | None,
    run: Path | None,
    world: World,
    show: bool | None = None,
) -> Kept:
    """The latents that training reads: in the folder that was given, or in the run, or in memory.

    The first process writes them, and the others wait. Raises CheckpointError, DataError.
    """
    folder = expanded(given) if given is not None else None if run is None else run / FOLDER
    if folder is None:
        return in_memory(encoded, show if world.is_main else False)
    found = in_folder(encoded, folder, show=show) if world.is_main else None
    world.barrier()
    return in_folder(encoded, folder, show=False) if found is None else found


def in_memory(encoded: Encoded, show: bool | None = None) -> Kept:
    """All latents, computed now and kept while this process lasts."""
    return Kept(shards=list(_computed(encoded, show)), shape=encoded.shape)


def in_folder(encoded: Encoded, folder: Path, *, show: bool | None = None) -> Kept:
    """The latents in a folder, which are computed and written first where they are not there.

    A folder that was half written, or whose latents are of another autoencoder or of other data, is
    noticed, said so, and written again. Raises CheckpointError where it cannot be written.
    """
    try:
        check_writable_folder(folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; give another folder in training.latents") from error
    wanted = described(encoded)
    with sole_writer(folder, _LOCK, wait=True):
        found, problem = _read(folder, wanted, encoded.shape)
        if found is not None:
            return found
        if problem is not None:
            _log.warning("%s: %s; the latents are computed again", folder, problem)
        _write(encoded, folder, wanted, show)
        found, problem = _read(folder, wanted, encoded.shape)
    if found is None:
        raise CheckpointError(f"{folder} was written and cannot be read: {problem}")
    return found


def described(encoded: Encoded) -> dict[str, Any]:
    """What tells latents from others: of the autoencoder all, of the data a sample."""
    return {
        "version": _VERSION,
        "autoencoder": encoded.space.digest(),
        "data": _digest_of(encoded.wrapped),
        "count": len(encoded),
        "shape": list(encoded.shape),
        "dtype": "float32",
    }


def _digest_of(dataset: Dataset) -> str:
    """SHA-256 of the class, the arguments, the length, and some samples with their conditions."""
    kind = type(dataset)
    named = [f"{kind.__module__}.{kind.__qualname__}", len(dataset), list(dataset.shape)]
    found = hashlib.sha256(json.dumps(named).encode())
    try:
        found.update(json.dumps(arguments_of(dataset), sort_keys=True).encode())
    except (AttributeError, TypeError, ValueError):
        _log.debug("%s is told from others by its samples alone", kind.__qualname__)
    found.update(samples_digest(dataset).encode())
    return found.hexdigest()


def _computed(encoded: Encoded, show: bool | None) -> Iterator[dict[str, Tensor]]:
    """What the files hold, one after the other."""
    count = len(encoded)
    with bar("encoding", 1.0, show) as shown:
        for start in range(0, count, _SHARD):
            end = min(start + _SHARD, count)
            parts = []
            for first in range(start, end, _ENCODED_AT_ONCE):
                parts.append(encoded.batch(range(first, min(first + _ENCODED_AT_ONCE, end))))
                shown.update(min(first + _ENCODED_AT_ONCE, end) / count, "")
            names = parts[0].condition
            held = {_CONDITION + n: torch.cat([p.condition[n] for p in parts]) for n in names}
            yield {_LATENT: torch.cat([part.x_0 for part in parts]), **held}


def _write(encoded: Encoded, folder: Path, wanted: Mapping[str, Any], show: bool | None) -> None:
    try:
        # The manifest goes first: what is killed from here on was left half written.
        for old in (folder / MANIFEST, *_files_in(folder)):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    files = []
    for number, tensors in enumerate(_computed(encoded, show)):
        path = folder / f"latents-{number:05d}.safetensors"
        write_file(path, tensor_bytes(tensors))
        files.append({"name": path.name, "sha256": _digest(path)})
    write_json(folder / MANIFEST, {**wanted, "files": files})


def _read(
    folder: Path, wanted: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[Kept | None, str | None]:
    """The latents there, or why there are none to be used; neither in an empty folder."""
    if not (folder / MANIFEST).exists():
        half = bool(_files_in(folder))
        return None, "it was left half written" if half else None
    try:
        manifest = read_json(folder / MANIFEST)
    except CheckpointError as error:
        return None, str(error)
    if not {"version", "autoencoder", "files"} <= manifest.keys():
        raise CheckpointError(
            f"{folder / MANIFEST} is none of diffkit's; give another folder in training.latents"
        )
    other = [name for name, value in wanted.items() if manifest.get(name) != value]
    if other:
        return None, f"its latents are of another {', another '.join(other)}"
    try:
        shards = []
        for file in manifest["files"]:
            path = folder / Path(str(file["name"])).name
            if not os.path.isfile(path) or _digest(path) != file["sha256"]:
                return None, f"{path.name} is missing, cut short or changed"
            shards.append(load_file(path))
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        return None, f"a file is missing or broken ({error})"
    if problem := _problem_of(shards, shape):
        return None, problem
    kept = Kept(shards=shards, shape=shape)
    if len(kept) != wanted["count"]:
        return None, "a file is missing"
    return kept, None


def _problem_of(shards: Sequence[Mapping[str, Tensor]], shape: tuple[int, ...]) -> str | None:
    """Why files are not such latents, if so: no manifest says what they hold."""
    for number, shard in enumerate(shards):
        latent = shard.get(_LATENT)
        if latent is None or latent.dtype != torch.float32 or tuple(latent.shape[1:]) != shape:
            return f"file {number} holds no latents of the shape {list(shape)}"
        counts = {value.shape[:1] for value in shard.values()}
        if shard.keys() != shards[0].keys() or len(counts) > 1:
            return f"file {number} has not one condition for each latent"
        if not bool(latent.isfinite().all()):
            return f"file {number} holds latents that are not finite"
    return None


def _files_in(folder: Path) -> list[Path]:
    """The files of latents in a folder, which have names of one form."""
    found = folder.glob("latents-*.safetensors")
    return [path for path in found if _SHARD_NAME.fullmatch(path.name)]


def _digest(path: Path) -> str:
    """SHA-256 of a file, which need not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cannot_write(folder: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"{folder} cannot be written: {error.strerror}; give another folder in training.latents"
    )
