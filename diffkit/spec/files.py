"""Reading spec files: YAML, TOML or JSON, as plain data and nothing else."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

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
    except (ValueError, yaml.YAMLError, RecursionError) as error:
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
        yaml.YAMLError: with the line.
    """
    return yaml.load(text, Loader=_Loader)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: `1e-4` is a number, `no` and `12:30` are strings."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (key_node, _) in zip(keys, node.value, strict=True):
            if not isinstance(key, str):
                message = f"keys are strings, not {key!r}"
                raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
            if keys.count(key) > 1:
                message = f"the key '{key}' is given twice"
                raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
    )


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"the key '{key}' is given twice")
    return dict(pairs)
