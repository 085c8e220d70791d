"""Metrics and what is logged, as lines of JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from torch import Tensor

from diffkit.core.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Mapping


class JSONLines(Observer):
    """Appends a line for each metrics, logged number and checkpoint; pictures are left out.

    Args:
        file: in the run directory; without one nothing is written. The run's own metrics.jsonl is
            written in any case.
    """

    def __init__(self, *, file: str = "log.jsonl") -> None:
        self._file = file

    def diffkit_step(self, run: Any, step: int, metrics: Mapping[str, float]) -> None:
        """`{"event": "step", ...}` with all metrics."""
        self._append(run, {"event": "step", **metrics})

    def diffkit_log(self, run: Any, step: int, name: str, value: float | Tensor) -> None:
        """`{"event": "log", "step": ..., name: value}`."""
        if not isinstance(value, Tensor):
            self._append(run, {"event": "log", "step": step, name: value})

    def diffkit_checkpoint(self, run: Any, step: int, path: Any) -> None:
        """`{"event": "checkpoint", ...}` with the folder's name."""
        self._append(run, {"event": "checkpoint", "step": step, "path": path.name})

    def _append(self, run: Any, line: Mapping[str, Any]) -> None:
        if run.directory is not None:
            with (run.directory / self._file).open("a") as file:
                file.write(json.dumps(line) + "\n")
