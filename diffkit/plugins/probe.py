"""One plugin module, imported in a process of its own, whatever it does there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from diffkit.plugins.fork_server import ForkedProcess, ForkServer
from diffkit.plugins.host import DISABLE_VARIABLE

_Process = subprocess.Popen[bytes] | ForkedProcess
Outcome = Literal["ok", "broken", "crashed", "hung"]

REQUEST, REPORT = "request.json", "report.json"
"""The files through which the two processes talk; a plugin may do what it likes to its output."""
_CHILD = (
    "import json, sys\n"
    "with open(sys.argv[1], encoding='utf-8') as file:\n"
    "    sys.path[:] = json.load(file)['path']\n"
    "from diffkit.plugins.probe_worker import main\n"
    "main(sys.argv[1])\n"
)
_TAIL = 4096
_GRACE = 1.0
_LOOK = 0.25


@dataclass(frozen=True)
class Examined:
    """How an import went, in its own process."""

    status: Outcome
    message: str
    """Why it is not ok, in a sentence; empty where it is."""
    seconds: float
    output: str = ""
    """The end of what the process wrote."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What the process found out."""


def examine_alone(
    task: Mapping[str, Any],
    *,
    timeout: float,
    disabled: tuple[str, ...] = (),
    stop: threading.Event | None = None,
    server: ForkServer | None = None,
) -> Examined:
    """Do `task` (see `diffkit.plugins.probe_worker`) in a new process; it cannot harm this one.

    The process sees the same `sys.path` and environment, and `disabled` beside what the
    environment disables. It is killed after `timeout` seconds, or when `stop` is set, with all
    that it started. It is one that `server` begins, which is faster, where there is one.
    """
    with tempfile.TemporaryDirectory(prefix="diffkit-doctor-") as folder:
        request = Path(folder) / REQUEST
        given = {**task, "path": sys.path, "timeout": timeout}
        request.write_text(json.dumps(given), encoding="utf-8")
        start = time.monotonic()
        read, write = os.pipe()
        tail = _Tail(read)
        with os.fdopen(write, "wb") as output:
            forked = None if server is None else server.start(request, output.fileno())
            process = _started(request, output, disabled) if forked is None else forked
        hung = _outlasts(process, timeout, stop or threading.Event())
        seconds = time.monotonic() - start
        report = _read(Path(folder) / REPORT)
    status, message = _judged(process.returncode, hung, timeout, report)
    return Examined(status, message, seconds, tail.text(), report or {})


def _started(
    request: Path, output: IO[bytes], disabled: tuple[str, ...]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-X", "faulthandler", "-c", _CHILD, str(request)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment(disabled),
        start_new_session=True,
    )


def _outlasts(process: _Process, timeout: float, stop: threading.Event) -> bool:
    """Wait until the process has ended; whether it had to be killed for that."""
    deadline = time.monotonic() + timeout
    while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
        try:
            process.wait(min(left, _LOOK))
            return False
        except subprocess.TimeoutExpired:
            continue
    _kill(process)
    return True


def _kill(process: _Process) -> None:
    """Kill a process that has not been waited for, and what it started."""
    if sys.platform == "win32":
        os.kill(process.pid, signal.SIGTERM)
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _judged(
    code: int, hung: bool, timeout: float, report: Mapping[str, Any] | None
) -> tuple[Outcome, str]:
    if report is not None:
        error = report.get("error")
        return ("ok", "") if error is None else ("broken", str(error))
    if hung:
        return "hung", f"it was not imported within {timeout:g} seconds"
    if code < 0:
        return "crashed", f"importing it killed the process with {_signal_name(-code)}"
    return "crashed", f"importing it ended the process with exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def environment(disabled: tuple[str, ...]) -> dict[str, str]:
    """This process's, with more disabled."""
    names = [*os.environ.get(DISABLE_VARIABLE, "").split(","), *disabled]
    return {**os.environ, DISABLE_VARIABLE: ",".join(name for name in names if name.strip())}


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


class _Tail:
    """The end of a pipe, read in a thread: neither a flood nor a pipe left open can block us."""

    def __init__(self, pipe: int) -> None:
        self._kept: deque[int] = deque(maxlen=_TAIL)
        self._pipe = pipe
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        with os.fdopen(self._pipe, "rb") as pipe:
            while chunk := os.read(pipe.fileno(), 65536):
                self._kept.extend(chunk[-_TAIL:])

    def text(self) -> str:
        """What was written last; waits a moment for the rest."""
        self._thread.join(_GRACE)
        text = bytes(self._kept.copy()).decode("utf-8", errors="replace")
        return "".join(c for c in text if c.isprintable() or c in "\n\t").strip()
