"""Reading whole files that are files: no pipe that blocks, no device without an end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MOST_JSON = 64 << 20
"""Bytes of a JSON file of diffkit's or of a model's; larger ones are none."""


def read_regular(path: str | Path, most: int | None = None) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than `most` bytes.
    """
    # What blocks when it is opened, as a pipe does, is opened without waiting.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is no regular file", str(path))
        if most is not None and found.st_size > most:
            raise OSError(0, f"it has more than {most} bytes", str(path))
        return file.read()
