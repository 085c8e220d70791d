"""Pipeline folders of diffusers: JSON and safetensors, and nothing else is ever read."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffkit.core.weights import read_tensors
from diffkit.errors import CheckpointError
from diffkit.helpers.files import read_json
from safetensors.torch import save as save_safetensors
from torch import Tensor

INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
_PICKLE = "diffusion_pytorch_model.bin"
_SHARDS = "diffusion_pytorch_model.safetensors.index.json"


@dataclass(frozen=True)
class Folder:
    """What a pipeline folder says, unjudged."""

    path: Path
    index: Mapping[str, Any]
    unet: Mapping[str, Any]
    scheduler: Mapping[str, Any]


def read_folder(path: Path) -> Folder:
    """The JSON files of a pipeline folder. Raises CheckpointError where one is missing or bad."""
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no such folder")
    if not (path / INDEX).exists():
        raise CheckpointError(
            f"{path} holds no {INDEX}: it is not a diffusers pipeline folder; give the one that "
            "save_pretrained of a pipeline wrote"
        )
    return Folder(
        path,
        read_json(path / INDEX),
        read_json(path / "unet" / "config.json"),
        read_json(path / "scheduler" / "scheduler_config.json"),
    )


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a model folder.

    Raises:
        CheckpointError: there is no whole safetensors file; says how to make one of a pickle.
    """
    path = folder / WEIGHTS
    if not path.exists() and (folder / _PICKLE).exists():
        raise CheckpointError(
            f"{folder} holds its weights as {_PICKLE}, a pickle, which can run any code and is "
            "never read. If you trust it, convert it with diffusers: "
            "UNet2DModel.from_pretrained(FOLDER, use_safetensors=False)"
            ".save_pretrained(FOLDER, safe_serialization=True)"
        )
    if not path.exists() and (folder / _SHARDS).exists():
        raise CheckpointError(
            f"{folder} holds its weights in several files; write them as one with diffusers: "
            "save_pretrained(FOLDER, max_shard_size='100GB')"
        )
    return read_tensors(path)


def write_folder(folder: Folder, weights: Mapping[str, Tensor]) -> None:
    """Write a pipeline folder. Raises CheckpointError where something is there already."""
    if folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
        raise CheckpointError(f"{folder.path} is there already; choose another folder")
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    files = {
        "unet/config.json": _json(folder.unet),
        f"unet/{WEIGHTS}": save_safetensors(tensors, metadata={"format": "pt"}),
        "scheduler/scheduler_config.json": _json(folder.scheduler),
        # Last, so that a folder cut short is not taken for a whole one.
        INDEX: _json(folder.index),
    }
    try:
        for name, content in files.items():
            path = folder.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise CheckpointError(f"{folder.path} cannot be written: {error.strerror}") from error


def with_defaults(config: Mapping[str, Any], of: type) -> dict[str, Any]:
    """The arguments that diffusers would make `of` with: the file's, and defaults for the rest.

    Keys that start with an underscore are diffusers' notes to itself; a key that it does not
    know, and that is null, says nothing.
    """
    parameters = inspect.signature(of.__init__).parameters  # type: ignore[misc]
    known = {name: p.default for name, p in parameters.items() if name != "self"}
    given = {
        key: value
        for key, value in config.items()
        if not key.startswith("_") and (key in known or value is not None)
    }
    return {**known, **given}


def is_one_of(value: Any, allowed: Iterable[Any]) -> bool:
    """Whether JSON holds one of these values; a number is not a boolean, though 1 == True."""
    return any(
        value == each and isinstance(value, bool) is isinstance(each, bool) for each in allowed
    )


def header(class_name: str) -> dict[str, str]:
    """The keys that diffusers puts first into each of its JSON files."""
    return {"_class_name": class_name, "_diffusers_version": version("diffusers")}


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2) + "\n").encode()
