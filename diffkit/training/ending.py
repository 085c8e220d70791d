"""What ends training before its last update."""

from __future__ import annotations

import logging
import math
import time
from signal import Signals

from diffkit.distributed.world import World
from diffkit.errors import TrainingError
from diffkit.helpers.interruption import Request
from diffkit.training.state import TrainState

_log = logging.getLogger("diffkit")
_TIME_IS_UP = 1
"""Beside the numbers of SIGINT and SIGTERM, which are larger."""
_AGREE_EVERY = 10
"""Updates between two questions to all processes whether to stop."""


class Ending:
    """Notes the signals, the time and the observers that ask for an end.

    Args:
        state: how far training has come.
        seconds: how long it may take in all; None is for ever.
        world: who has to end with it.
    """

    def __init__(self, state: TrainState, seconds: float | None, world: World) -> None:
        self._state, self._world = state, world
        self._limit = math.inf if seconds is None else seconds
        self._updated = time.perf_counter()
        self._reason: str | None = None
        self.request = Request()
        """The signal that came, if one did."""

    def spent(self) -> float:
        """How much of the time is over, from 0 to 1."""
        return self._state.seconds / self._limit

    def updated(self, now: float) -> None:
        """An update was made."""
        self._updated = now

    def stop(self, reason: str) -> None:
        """End after this update; the first reason is said."""
        if self._reason is None:
            self._reason = reason
            _log.warning("training ends after update %d: %s", self._state.step, reason)

    def check(self) -> None:
        """Raise TrainingError, for observers, where training is to end: they are not waited for."""
        seconds = self._state.seconds + time.perf_counter() - self._updated
        if self.request.signal is not None or seconds >= self._limit:
            raise TrainingError("training ends, and what an observer was at is left unfinished")

    def is_due(self) -> bool:
        """Whether somebody asked for it, or time is up; processes agree now and then."""
        ends = self._state.seconds >= self._limit or self._reason is not None
        wanted = _TIME_IS_UP if ends else 0
        wanted = wanted if self.request.signal is None else int(self.request.signal)
        if self._world.count > 1:
            if self._state.step % _AGREE_EVERY:
                return False
            wanted = self._world.all_max(wanted)
            if wanted > _TIME_IS_UP:
                self.request.signal = Signals(wanted)
        return wanted > 0
