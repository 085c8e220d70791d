"""Processes that begin with torch and the kinds imported, forked from one that imported them."""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from diffkit.plugins.kinds import KINDS
from diffkit.plugins.probe_worker import main

_SERVER = (
    "import json, sys\n"
    "sys.path[:] = json.loads(sys.stdin.readline())\n"
    "from diffkit.plugins.fork_server import serve\n"
    "serve()\n"
)
_READY = 120.0
"""Seconds in which torch has to be imported."""
_MESSAGE = 65536


class ForkServer:
    """Begins processes of which each has imported torch and diffkit's core already, one at a time.

    They share nothing but what was imported before any plugin was: on Linux alone, where a process
    that has imported torch may be forked.

    Args:
        environment: of these processes.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-X", "faulthandler", "-c", _SERVER],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=dict(environment),
                start_new_session=True,
            )
        self._channel.sendall(json.dumps(sys.path).encode() + b"\n")

    def ready(self) -> bool:
        """Wait until it has imported what it has to; whether it could."""
        try:
            return _number(self._channel, _READY) is not None
        except EOFError:
            return False

    def start(self, request: Path, output: int) -> ForkedProcess | None:
        """A process that does a task and writes to the pipe `output`; None where none begins."""
        try:
            socket.send_fds(self._channel, [str(request).encode()], [output])
            pid = _number(self._channel, _READY)
        except (OSError, EOFError):
            return None
        return None if pid is None else ForkedProcess(pid, self._channel)

    def close(self) -> None:
        """End it."""
        self._channel.close()
        self._process.kill()
        self._process.wait()


class ForkedProcess:
    """A process that a fork server began: what is asked of it is as `subprocess.Popen` has it."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid, self.returncode, self._channel = pid, 0, channel

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; raises subprocess.TimeoutExpired."""
        try:
            code = _number(self._channel, timeout)
        except EOFError:
            code = -signal.SIGKILL  # The server was killed, and would have told.
        if code is None:
            raise subprocess.TimeoutExpired([str(self.pid)], timeout or 0.0)
        self.returncode = code
        return code


def _number(channel: socket.socket, timeout: float | None) -> int | None:
    """The next number from the other side; None where none comes in time. Raises EOFError."""
    if not select.select([channel], [], [], timeout)[0]:
        return None
    digits = b""
    while not digits.endswith(b"\n"):
        if not (more := channel.recv(1)):
            raise EOFError
        digits += more
    return int(digits)


def serve() -> NoReturn:
    """Import the kinds, and so torch; then fork a process for each request from standard input."""
    for kind in KINDS.values():
        importlib.import_module(kind.interface.partition(":")[0])
    channel = socket.socket(fileno=os.dup(0))
    channel.sendall(b"0\n")
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE, 1)
        if not request:
            os._exit(0)
        (output,) = descriptors
        if (pid := os.fork()) == 0:
            _begin(request.decode(), output, channel)
        os.close(output)
        channel.sendall(b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        channel.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _begin(request: str, output: int, channel: socket.socket) -> NoReturn:
    """Do a task as a process of its own would that python was started for."""
    channel.close()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    try:
        main(request)
    except BaseException:  # noqa: BLE001 - the end of a process, as python would show it
        traceback.print_exc()
    os._exit(1)
