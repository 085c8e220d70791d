"""Reading spec files: YAML, TOML or JSON, as plain data and nothing else.

What a file can cost is bounded before it is parsed: its size, how deep it goes, how long a number
and a dotted key are. Errors say the line.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffkit.arguments import DEEPEST, expanded
from diffkit.errors import SpecError

_LARGEST = 1 << 20
_DIGITS = 1000
_PARTS = 64

_TOKENS = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*+"|\'[^\'\n]*+\'|#[^\n]*+'
    rf"|(?P<open>[\[{{])|(?P<close>[\]}}])|(?P<digits>[0-9_]{{{_DIGITS},}}+)",
    re.DOTALL,
)
_PART = r"(?:[A-Za-z0-9_-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+"
_DOTTED = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:\.[ \t]*+{_PART}){{{_PARTS}}}")


def read_data(path: Path) -> dict[str, Any]:
    """The mapping in a spec file, by its ending. `~` is the home directory.

    Raises:
        SpecError: the file cannot be read or parsed, or holds no mapping.
    """
    readers: dict[str, Callable[[str], Any]] = {
        ".yaml": parse_yaml,
        ".yml": parse_yaml,
        ".toml": parse_toml,
        ".json": parse_json,
    }
    path = expanded(path)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SpecError([f"{path}: a spec file ends in .yaml, .yml, .toml or .json"])
    try:
        # Editors of some systems begin a file with a byte-order mark.
        data = reader(_content(path).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SpecError(
            [f"{path} cannot be parsed: line {line} is not UTF-8: {error.reason}; save it as UTF-8"]
        ) from error
    except (ValueError, RecursionError) as error:
        raise SpecError([f"{path} cannot be parsed: {error}"]) from error
    if not isinstance(data, dict):
        raise SpecError([f"{path}: a spec is a mapping, not {type(data).__name__}"])
    return data


def parse_json(text: str) -> Any:
    """JSON without repeated keys. Raises ValueError, with the line."""
    _check_bounds(text)
    return json.loads(text, object_pairs_hook=_without_repeats)


def parse_toml(text: str) -> dict[str, Any]:
    """TOML. Raises ValueError, with the line."""
    _check_bounds(text)
    if found := _DOTTED.search(text):
        raise ValueError(f"line {_line(text, found)}: a dotted key of more than {_PARTS} parts")
    return tomllib.loads(text)


def parse_yaml(text: str) -> Any:
    """YAML with the scalars of version 1.2, without aliases and repeated keys.

    Raises:
        ValueError: with the line.
    """
    # Imported where it is used: it takes a tenth of the time to a first pipeline.
    from diffkit.config.yaml_1_2 import YAMLError, load

    try:
        return load(text, deepest=DEEPEST)
    except YAMLError as error:
        raise ValueError(str(error)) from error


def _content(path: Path) -> bytes:
    """A regular file's bytes: what a pipe or a device gives may never come, or never end."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            what = "a folder" if path.is_dir() else "no regular file"
            raise SpecError([f"{path} cannot be read: it is {what}"])
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpecError([f"{path} cannot be read: {reason}"]) from error
    if len(content) > _LARGEST:
        raise SpecError([f"{path}: a spec file of over 1 MiB is not one"])
    return content


def _check_bounds(text: str) -> None:
    """Raise ValueError where JSON or TOML goes too deep, or has a number that is too long."""
    depth = 0
    for token in _TOKENS.finditer(text):
        depth += (token["open"] is not None) - (token["close"] is not None)
        if depth > DEEPEST:
            raise ValueError(f"line {_line(text, token)}: it goes more than {DEEPEST} levels deep")
        if token["digits"] is not None:
            raise ValueError(f"line {_line(text, token)}: a number of over {_DIGITS} digits")


def _line(text: str, found: re.Match[str]) -> int:
    return text.count("\n", 0, found.start()) + 1


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key '{twice}' is given twice")
    return found
