"""The run's own file of metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from diffkit.plugins.isolation import cause_of
from diffkit.storage.run_directory import append_metrics

Sink = Callable[[int, Mapping[str, float]], None]
_log = logging.getLogger("diffkit")


class Guarded:
    """A sink that is left out once it fails: no log ends training."""

    def __init__(self, name: str, sink: Sink) -> None:
        self._name, self._sink = name, sink
        self._fails = False

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write, unless that failed before."""
        if self._fails:
            return
        try:
            self._sink(step, metrics)
        except Exception as error:  # noqa: BLE001 - whatever a logger raises
            self._fails = True
            _log.warning("%s is left out from update %d on: %s", self._name, step, cause_of(error))


def own_log(directory: Path) -> Sink:
    """The run's own file; nothing is written before the first metrics are."""
    return Guarded("metrics.jsonl", lambda step, metrics: append_metrics(directory, metrics))
