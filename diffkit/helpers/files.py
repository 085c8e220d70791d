"""Files that are written whole or not at all, and what half-written ones leave behind."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from diffkit.core.regular import MOST_JSON, read_regular
from diffkit.errors import CheckpointError

_OWN = re.compile(r"\.diffkit-(?P<pid>\d+)-[0-9a-f]+\.tmp")
"""The names of what is not whole yet, or not wanted any more; nobody else's look like it."""
_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF, errno.EACCES})
"""What file systems answer that do not know how to sync a folder."""
_log = logging.getLogger("diffkit")
_noted: set[str] = set()


def note_once(message: str) -> None:
    """Warn of what a file system cannot do: once in this process."""
    if message not in _noted:
        _noted.add(message)
        _log.warning("%s", message)


def temporary_beside(path: Path) -> Path:
    """A name of our own in the folder of `path`, for what is not whole yet."""
    return path.with_name(f".diffkit-{os.getpid()}-{secrets.token_hex(6)}.tmp")


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file or none: to a temporary name, synced, then renamed.

    Raises:
        CheckpointError: the disk is full, the folder is read-only ...; an earlier file stays.
    """
    stream_file(path, lambda file: file.write(content))


def stream_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """As `write_file`, with content that `write` writes to an open file.

    What `write` raises passes through; the temporary file is then gone.
    """
    path = _replaceable(path)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        remove(temporary)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a mapping as JSON, as `write_file` does."""
    write_file(path, (json.dumps(data, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file. Raises CheckpointError."""
    try:
        data = json.loads(read_regular(path, MOST_JSON))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: it should hold a mapping")
    return data


def check_writable(path: Path) -> None:
    """Raise CheckpointError where a file at `path` could not be written, before work begins.

    What is there stays as it is, and a folder that is missing is not made.
    """
    check_writable_folder(_replaceable(path).parent)


def check_writable_folder(folder: Path) -> None:
    """Raise CheckpointError where nothing could be written into a folder, made or to be made."""
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    probe = temporary_beside(there / "probe")
    try:
        probe.write_bytes(b"diffkit")
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        remove(probe)


def _replaceable(path: Path) -> Path:
    """Where a file that replaces this one goes: where links lead. Raises CheckpointError."""
    try:
        path = Path(os.path.realpath(path))
        there = path.lstat()
    except FileNotFoundError:
        return path
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error
    if not stat.S_ISREG(there.st_mode):
        kind = "a folder" if stat.S_ISDIR(there.st_mode) else "no regular file"
        raise CheckpointError(f"{path} cannot be written: it is {kind}")
    return path


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last through a power cut, where its file system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno in _CANNOT_SYNC:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
        note_once(
            f"{folder}: this file system cannot sync folders ({error.strerror}); after a power cut "
            "the newest files may be missing"
        )
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file or folder as far as that can be done: the first error is the one to tell."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        _log.debug("%s cannot be deleted: %s", path, error)


def discard(folder: Path) -> None:
    """Delete a folder such that, killed at any moment, no part of it keeps its name."""
    hidden = temporary_beside(folder)
    folder.rename(hidden)
    remove(hidden)


def clear_remains(folder: Path) -> None:
    """Delete what processes that are gone left half written here: only what bears our mark."""
    for path in folder.glob(".diffkit-*.tmp") if folder.is_dir() else ():
        mark = _OWN.fullmatch(path.name)
        if mark is not None and not _lives(int(mark["pid"])):
            remove(path)


def cannot_write(path: Path, error: OSError | ValueError) -> CheckpointError:
    """The error for a file or folder that cannot be written."""
    why = error.strerror if isinstance(error, OSError) else str(error)
    return CheckpointError(f"{path} cannot be written: {why}; what was there before is untouched")


def _lives(pid: int) -> bool:
    """Whether another process of this number is there; ours has left nothing that it needs."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
