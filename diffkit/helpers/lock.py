"""One process at a time writes a run."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffkit.errors import CheckpointError
from diffkit.helpers.files import cannot_write, note_once

LOCK = ".lock"
_log = logging.getLogger("diffkit")
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})


@contextmanager
def sole_writer(folder: Path, name: str = LOCK, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock in a folder; the system lets go of it when the process ends, however it ends.

    `wait`: for another that holds it, which is said, instead of an error.

    Raises:
        CheckpointError: another writer holds it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        if not wait:
            raise CheckpointError(
                f"{folder} is being written by another process, or by training that is under way "
                "in this one; wait for it or end it, or choose another directory"
            ) from error
        _log.warning("waiting for another process that writes %s", folder)
        lock.acquire()
    except NotImplementedError:
        _note_no_locks(folder)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise cannot_write(folder, error) from error
        _note_no_locks(folder)
    try:
        yield
    finally:
        try:
            lock.release()
        except OSError as error:  # Somebody closed its descriptor; what was done is done.
            _log.debug("the lock of %s cannot be let go: %s", folder, error)


def _note_no_locks(folder: Path) -> None:
    note_once(f"{folder}: this file system has no locks; do not write it twice at once")
