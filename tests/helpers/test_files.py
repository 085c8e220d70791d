"""File systems that cannot do everything, and errors that hide no other one."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

import pytest

import diffkit
from diffkit.helpers import files
from diffkit.helpers.files import check_writable, stream_file, write_file
from diffkit.helpers.lock import sole_writer


def failing(number: int, real, fails):
    def call(*args):
        if fails(*args):
            raise OSError(number, os.strerror(number))
        return real(*args)

    return call


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EBADF, errno.ENOTSUP])
def test_folders_that_cannot_be_synced_are_noted_once(
    number, tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(os, "fsync", failing(number, os.fsync, is_folder))
    monkeypatch.setattr(files, "_noted", set())
    for name in ("a", "b"):
        write_file(tmp_path / name, b"whole")
    assert (tmp_path / "b").read_bytes() == b"whole"
    assert caplog.text.count("cannot sync folders") == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_file_systems_without_locks_are_written_all_the_same(
    number, tmp_path, monkeypatch, caplog
) -> None:
    locks = failing(number, fcntl.flock, lambda _, what: what & fcntl.LOCK_EX)
    monkeypatch.setattr(fcntl, "flock", locks)
    monkeypatch.setattr(files, "_noted", set())
    with sole_writer(tmp_path / "run"):
        write_file(tmp_path / "run" / "x", b"whole")
    assert (tmp_path / "run" / "x").read_bytes() == b"whole"


def test_a_lock_that_fails_otherwise_is_an_error(tmp_path, monkeypatch) -> None:
    locks = failing(errno.EIO, fcntl.flock, lambda _, what: what & fcntl.LOCK_EX)
    monkeypatch.setattr(fcntl, "flock", locks)
    with pytest.raises(diffkit.CheckpointError, match="Input/output"), sole_writer(tmp_path / "r"):
        pass


def test_the_first_error_is_the_one_that_is_told(tmp_path, monkeypatch) -> None:
    def unlink(self, missing_ok=False):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(type(tmp_path), "unlink", unlink)

    def fails(file) -> None:
        raise ValueError("what went wrong")

    with pytest.raises(ValueError, match="what went wrong"):
        stream_file(tmp_path / "x", fails)


def test_a_target_is_tried_and_nothing_is_made(tmp_path) -> None:
    check_writable(tmp_path / "not" / "there" / "x.png")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file" / "x.png", tmp_path):
        with pytest.raises(diffkit.CheckpointError, match="cannot be written"):
            check_writable(target)


def test_a_lock_dies_with_its_process_though_a_child_lives_on(tmp_path) -> None:
    """A dataset's forked workers outlive a trainer that was killed; the run is free."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with sole_writer(tmp_path / "run"):
            worker = os.fork()
            if worker == 0:
                os.write(writing, str(os.getpid()).encode())
                time.sleep(60)
                os._exit(0)
            os.waitpid(worker, 0)
        os._exit(0)
    worker = int(os.read(reading, 100))
    try:
        os.kill(child, 9)
        os.waitpid(child, 0)
        with sole_writer(tmp_path / "run"):
            assert _lives(worker)
    finally:
        os.kill(worker, 9)
