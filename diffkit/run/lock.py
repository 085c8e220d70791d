"""One process at a time writes a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffkit.errors import CheckpointError

LOCK = ".lock"
_log = logging.getLogger("diffkit")


@contextmanager
def sole_writer(run: Path) -> Iterator[None]:
    """Hold the run's lock; the system lets go of it when the process ends, however it ends.

    Raises:
        CheckpointError: another process holds it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(run / LOCK)
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CheckpointError(
            f"{run} is being trained by another process; wait for it or end it, or choose another "
            "directory"
        ) from error
    except NotImplementedError:
        _log.warning("%s: this file system has no locks; do not train twice into it", run)
    except OSError as error:
        raise CheckpointError(f"{run} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
