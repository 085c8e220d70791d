"""Other people's metadata, which may be broken, kept from breaking what diffkit does.

torch, pydantic and others read the entry points of every installed distribution, and fail where
those of a single one cannot be read: see docs/decisions/0023-broken-metadata.md.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution
from typing import Any

ENTRY_POINTS = "entry_points.txt"
LARGEST = 1 << 20
"""Bytes of an `entry_points.txt` that is one; thousands of entry points fit."""

_lock = threading.Lock()
_inside = 0
_all: Callable[..., Any] = importlib.metadata.distributions


class Unreadable(Exception):
    """Why the entry points of a distribution cannot be had."""


def all_distributions(path: list[str] | None = None) -> Iterator[Distribution]:
    """Every distribution on a path (default: `sys.path`), the unreadable ones too."""
    return iter(_all() if path is None else _all(path=path))


def pipe_in_place_of(distribution: Distribution) -> str | None:
    """The file of the metadata whose reading would wait for somebody to write, if there is one."""
    for name in (ENTRY_POINTS, "METADATA", "PKG-INFO"):
        file = _file(distribution, name)
        if file is not None and file.exists() and not file.is_file():
            return name
    return None


def entry_points_text(distribution: Distribution) -> str | None:
    """What its `entry_points.txt` holds; None where there is none. Raises Unreadable."""
    file = _file(distribution, ENTRY_POINTS)
    try:
        if (name := pipe_in_place_of(distribution)) is not None:
            raise Unreadable(f"{name} cannot be read: it is no regular file")
        known = file is not None and hasattr(file, "stat") and file.exists()
        if known and file.stat().st_size > LARGEST:
            raise Unreadable(f"{ENTRY_POINTS} is too large: over {LARGEST >> 20} MiB")
        return distribution.read_text(ENTRY_POINTS)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise Unreadable(f"{ENTRY_POINTS} cannot be read: {error}") from error


def has_metadata(distribution: Distribution) -> bool:
    """Whether there is a file that says what it is; a folder left over has none."""
    files = [_file(distribution, name) for name in ("METADATA", "PKG-INFO")]
    if None in files:
        return True
    try:
        return any(file.is_file() for file in files) or not _file(distribution, "").is_dir()
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def unreadable_left_out() -> Iterator[None]:
    """Within, `importlib.metadata.distributions` leaves out those that nobody can read.

    It is a function of the whole process: it is put back when the last of several threads leaves.
    """
    global _inside, _all
    with _lock:
        if not _inside:
            _all = importlib.metadata.distributions
            importlib.metadata.distributions = _readable
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                importlib.metadata.distributions = _all


def _readable(**context: Any) -> Iterator[Distribution]:
    """The distributions whose names and entry points can be read."""
    for distribution in _all(**context):
        try:
            text = entry_points_text(distribution)
            # What `importlib.metadata.entry_points` asks of each.
            _ = distribution._normalized_name
            if text:
                list(distribution.entry_points)
        except Exception:  # noqa: BLE001 - whatever it is, nobody else could go on with it
            continue
        yield distribution


def _file(distribution: Distribution, name: str) -> Any:
    """A file of the metadata, where they lie in a folder or an archive; else None."""
    folder = getattr(distribution, "_path", None)
    return folder if folder is None or not name else folder / name
