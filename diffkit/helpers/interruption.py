"""Signals that ask training to end: noted, and obeyed after the update that is under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Request:
    """What was asked for so far."""

    signal: signal.Signals | None = None


@contextmanager
def requests_noted() -> Iterator[Request]:
    """Note the first SIGINT or SIGTERM instead of dying of it; a second one does what it did.

    Handlers belong to the main thread: elsewhere nothing is noted, and nothing is changed.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: object) -> None:
        if request.signal is None:
            request.signal = signal.Signals(number)
            return
        restore()
        signal.raise_signal(number)

    for number in _SIGNALS:
        # What is ignored, as under nohup, stays so; None is a handler that is not Python's.
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
