"""The metrics of a run, a line each time they are taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from diffkit.errors import CheckpointError
from diffkit.run.artifacts import METRICS
from diffkit.run.files import cannot_write, write_file


def append_metrics(run: Path, metrics: Mapping[str, float]) -> None:
    """Add one line to the metrics. Raises CheckpointError."""
    path = run / METRICS
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(metrics) + "\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def read_metrics(run: Path) -> list[dict[str, float]]:
    """The metrics of a run, oldest first; a last line cut short by a crash is left out."""
    path = run / METRICS
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    lines = []
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("step"), int):
            lines.append(found)
    return lines


def drop_metrics_after(run: Path, step: int) -> None:
    """Forget the metrics of updates that a resumed run will make again."""
    kept = [line for line in read_metrics(run) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    if (run / METRICS).exists():
        write_file(run / METRICS, text.encode())
