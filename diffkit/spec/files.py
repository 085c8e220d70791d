"""Reading spec files: YAML, TOML or JSON, as plain data and nothing else."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffkit.errors import SpecError

_LARGEST = 1 << 20


def read_data(path: Path) -> dict[str, Any]:
    """The mapping in a spec file, by its ending.

    Raises:
        SpecError: the file cannot be read or parsed, or holds no mapping.
    """
    readers: dict[str, Callable[[str], Any]] = {
        ".yaml": parse_yaml,
        ".yml": parse_yaml,
        ".toml": tomllib.loads,
        ".json": parse_json,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SpecError([f"{path}: a spec file ends in .yaml, .yml, .toml or .json"])
    try:
        if path.stat().st_size > _LARGEST:
            raise SpecError([f"{path}: a spec file of over 1 MiB is not one"])
        data = reader(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError([f"{path} cannot be read: {error.strerror}"]) from error
    except (ValueError, RecursionError) as error:
        raise SpecError([f"{path} cannot be parsed: {error}"]) from error
    if not isinstance(data, dict):
        raise SpecError([f"{path}: a spec is a mapping, not {type(data).__name__}"])
    return data


def parse_json(text: str) -> Any:
    """JSON without repeated keys. Raises ValueError."""
    return json.loads(text, object_pairs_hook=_without_repeats)


def parse_yaml(text: str) -> Any:
    """YAML with the scalars of version 1.2, without aliases and repeated keys.

    Raises:
        ValueError: with the line.
    """
    # Imported where it is used: it takes a tenth of the time to a first pipeline.
    from diffkit.spec.yaml_1_2 import YAMLError, load

    try:
        return load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"the key '{key}' is given twice")
    return dict(pairs)
