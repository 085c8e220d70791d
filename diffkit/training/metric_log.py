"""Where metrics go: the run's own file, and TensorBoard's where it is installed."""

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


def sinks_of(directory: Path) -> tuple[Sink, ...]:
    """The sinks of a run in this directory; nothing is written before the first metrics are."""
    own = Guarded("metrics.jsonl", lambda step, metrics: append_metrics(directory, metrics))
    return (own, *_tensorboard(directory / "tensorboard"))


def _tensorboard(folder: Path) -> tuple[Sink, ...]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return ()
    except Exception as error:  # noqa: BLE001 - nobody asked for it, so that it can end nothing
        _log.warning("TensorBoard is left out: importing it raised %s", cause_of(error))
        return ()
    writers: list[SummaryWriter] = []

    def write(step: int, metrics: Mapping[str, float]) -> None:
        if not writers:
            writers.append(SummaryWriter(str(folder)))
        folder.stat()  # Its thread would die of a folder that somebody deleted.
        for name, value in metrics.items():
            if name != "step":
                writers[0].add_scalar(f"train/{name}", value, step)
        writers[0].flush()

    return (Guarded("TensorBoard", write),)
