"""What callers give to public functions: taken as what it stands for, or refused by name.

Each function here names the argument, the value and what is allowed in its SpecError.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from diffkit.errors import SpecError

DEEPEST = 100
"""Levels of mappings and lists in one another, in specs and configurations."""
_LONGEST = 80
_Literal = TypeVar("_Literal")


def plain(value: Any) -> Any:
    """The Python number, truth value or text of a scalar of NumPy or torch; all else as it is."""
    if getattr(value, "ndim", None) != 0 or not callable(getattr(value, "item", None)):
        return value
    try:
        return value.item()
    except (RuntimeError, TypeError, ValueError):
        return value  # As of a tensor that has no data.


def plain_tree(value: Any, deepest: int = DEEPEST) -> Any:
    """The same of everything in mappings, lists and tuples. Raises ValueError where it is deep."""
    if not isinstance(value, Mapping | list | tuple):
        return plain(value)
    if deepest < 0:
        raise ValueError(f"it goes more than {DEEPEST} levels deep")
    if isinstance(value, Mapping):
        return {plain(key): plain_tree(item, deepest - 1) for key, item in value.items()}
    return [plain_tree(item, deepest - 1) for item in value]


def whole(value: Any, name: str, *, least: int | None = None, below: int | None = None) -> int:
    """A whole number. Raises SpecError."""
    number = plain(value)
    try:
        if isinstance(number, bool):
            raise TypeError
        found = operator.index(number)
    except TypeError:
        raise refused(name, value, f"a whole number{_bounds(least, below)}") from None
    if (least is not None and found < least) or (below is not None and found >= below):
        raise refused(name, value, f"a whole number{_bounds(least, below)}")
    return found


def number(value: Any, name: str, allowed: str, fits: Callable[[float], bool]) -> float:
    """A finite number that fits what is allowed, said in words. Raises SpecError."""
    found = plain(value)
    try:
        if isinstance(found, bool | str | bytes):
            raise TypeError
        as_float = float(found)
    except (TypeError, ValueError, OverflowError):
        raise refused(name, value, allowed) from None
    if not (math.isfinite(as_float) and fits(as_float)):
        raise refused(name, value, allowed)
    return as_float


def truth(value: Any, name: str) -> bool:
    """True or False. Raises SpecError."""
    found = plain(value)
    if not isinstance(found, bool):
        raise refused(name, value, "True or False")
    return found


def one_of(value: Any, name: str, allowed: Iterable[_Literal], *, also: str = "") -> _Literal:
    """One of a few values; `also` says what else would do. Raises SpecError."""
    choices = tuple(allowed)
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
    words = ", ".join(repr(choice) for choice in choices)
    raise refused(name, value, f"one of {words}{f', or {also}' if also else ''}")


def path(value: Any, name: str) -> Path:
    """A path, `~` at its beginning standing for the home directory. Raises SpecError."""
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise refused(name, value, "a path: a string or a pathlib.Path")
    if not text:
        raise refused(name, value, "a path, which is not empty")
    if "\0" in text:
        raise refused(name, value, "a path, which holds no zero byte")
    return expanded(text)


def expanded(text: str | Path) -> Path:
    """The path with `~` or `~somebody` at its beginning replaced by that home directory.

    Left as it is where there is no such home: it may be the name of a file.
    """
    return Path(os.path.expanduser(text))


def several(value: Any, name: str, kind: str) -> tuple[Any, ...]:
    """Several things: anything to iterate over but a text or a mapping. Raises SpecError."""
    if isinstance(value, str | bytes | Mapping | type) or not isinstance(value, Iterable):
        raise refused(name, value, f"{kind} in a list")
    return tuple(value)


def instance(value: Any, name: str, wanted: Any, described: str) -> Any:
    """An instance of a class, or of one of several. Raises SpecError."""
    if not isinstance(value, wanted):
        raise refused(name, value, described)
    return value


def refused(name: str, value: Any, allowed: str) -> SpecError:
    """The error for a value that an argument cannot have."""
    return SpecError([f"{name} is {allowed}, not {shown(value)}"])


def shown(value: Any) -> str:
    """A value in an error: short, in one line, whatever its `__repr__` does."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - it belongs to somebody else
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _bounds(least: int | None, below: int | None) -> str:
    lower = "" if least is None else f", at least {least}"
    return lower if below is None else f"{lower} and below {_power(below)}"


def _power(number: int) -> str:
    exponent = number.bit_length() - 1
    return f"2**{exponent}" if number == 1 << exponent and exponent > 20 else str(number)
