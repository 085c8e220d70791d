"""Run directories: written so that a crash at any moment leaves only whole states.

RUN/spec.json                      the spec as it was last asked for, every default written out
RUN/metrics.jsonl                  one line each time metrics were taken
RUN/.lock                          held by the process that writes
RUN/checkpoints/step-00001000/     one state, never changed once it has this name: spec.json, the
                                   spec of these weights; model.safetensors, one of each average,
                                   optimizer.safetensors; times.safetensors, if those learn;
                                   trainer.json, which lists those files
RUN/superseded/                    checkpoints that training went back behind

A state that replaces one of the same step is step-00001000-r2, and so on: the last one counts.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from diffkit.core.regular import read_regular
from diffkit.core.weights import tensor_bytes
from diffkit.errors import CheckpointError
from diffkit.helpers.files import (
    cannot_write,
    clear_remains,
    discard,
    read_json,
    remove,
    sync_folder,
    temporary_beside,
    write_file,
    write_json,
)

SPEC = "spec.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
SUPERSEDED = "superseded"
TRAINER = "trainer.json"
FILES = "files"
"""The key of the names, without ending, of the files of tensors in a checkpoint."""
_NAME = re.compile(r"step-(\d{8,18})(?:-r(\d{1,9}))?")
_log = logging.getLogger("diffkit")

Which = Literal["last", "best"] | int
"""A checkpoint: the last one, the one before which the mean loss was least, or that of a step."""


def write_checkpoint(
    run: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    records: Mapping[str, Mapping[str, Any]],
    progress: Mapping[str, Any],
) -> Path:
    """Write a checkpoint whole or not at all, in place of an earlier one of the same step.

    `tensors` maps file names (without ending) to named tensors, `records` file names to JSON.
    Raises CheckpointError; earlier checkpoints stay.
    """
    folder = run / CHECKPOINTS
    final = _free_name(folder, step)
    temporary = temporary_beside(final)
    try:
        temporary.mkdir(parents=True)
        for name, named in tensors.items():
            write_file(temporary / f"{name}.safetensors", tensor_bytes(named))
        for name, record in records.items():
            write_json(temporary / name, record)
        write_json(temporary / TRAINER, {**progress, "step": step, FILES: sorted(tensors)})
        temporary.replace(final)
        sync_folder(folder)
    except OSError as error:
        raise cannot_write(final, error) from error
    finally:
        remove(temporary)
    _discard(path for path in named_checkpoints(folder) if path != final and step_of(path) == step)
    return final


def prune(run: Path, keep: int, keep_best: int) -> None:
    """Delete all but the last `keep` checkpoints and the `keep_best` with the least loss."""
    kept = {*checkpoints(run)[-keep:], *best_checkpoints(run)[:keep_best]}
    _discard(path for path in checkpoints(run) if path not in kept)


def clear_run(run: Path) -> None:
    """Delete what processes that were killed left half written. Only for the one that writes."""
    clear_remains(run)
    clear_remains(run / CHECKPOINTS)
    last = set(checkpoints(run))
    _discard(path for path in named_checkpoints(run / CHECKPOINTS) if path not in last)


def best_checkpoints(run: Path) -> list[Path]:
    """The checkpoints that recorded a loss, the one with the least first."""
    losses = {path: _recorded_loss(path) for path in checkpoints(run)}
    rated = {path: loss for path, loss in losses.items() if loss is not None}
    return sorted(rated, key=lambda path: rated[path])


def checkpoints(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first. Half-written ones never bear such a name."""
    last = {step_of(path): path for path in named_checkpoints(run / CHECKPOINTS)}
    return [last[step] for step in sorted(last)]


def step_of(checkpoint: Path) -> int:
    """The number of updates in a checkpoint's name."""
    return _key(checkpoint)[0]


def holds_a_run(directory: Path) -> bool:
    """Whether training has written to a directory, or a pipeline was saved there."""
    found = os.path.lexists(directory / METRICS) or os.path.lexists(directory / SPEC)
    return found or bool(checkpoints(directory))


def latest_checkpoint(run: Path) -> Path:
    """The newest checkpoint. Raises CheckpointError where there is none."""
    if not os.path.isdir(run):
        below = "" if run.is_absolute() else f", below {Path.cwd()}"
        raise CheckpointError(f"{run}: there is no such run directory{below}")
    found = checkpoints(run)
    if not found and names_a_checkpoint(run.resolve()):
        whole = run.resolve()
        raise CheckpointError(
            f"{run} is a checkpoint; name its run, {whole.parent.parent}, and choose it there "
            "(checkpoint, --checkpoint)"
        )
    if not found and holds_a_run(run):
        raise CheckpointError(
            f"{run}: its training ended before the first checkpoint; resume it (resume=True, "
            "--resume), which begins it again"
        )
    if not found:
        raise CheckpointError(f"{run}: it holds no checkpoint; train it first, or save a pipeline")
    return found[-1]


def chosen_checkpoint(run: Path, which: Which) -> Path:
    """The `last` checkpoint, the `best` one, or that of a step. Raises CheckpointError."""
    latest = latest_checkpoint(run)
    if which == "last":
        return latest
    if which == "best":
        best = best_checkpoints(run)
        if not best:
            raise CheckpointError(f"{run}: no checkpoint recorded a loss; take the last one")
        return best[0]
    for path in checkpoints(run):
        if isinstance(which, int) and not isinstance(which, bool) and step_of(path) == which:
            return path
    kept = ", ".join(str(step_of(path)) for path in checkpoints(run))
    raise CheckpointError(
        f"{run}: there is no checkpoint {which!r}; take last, best, or one of the steps {kept}"
    )


def recorded_step(checkpoint: Path) -> int:
    """How many updates a checkpoint was made after. Raises CheckpointError."""
    step = read_json(checkpoint / TRAINER).get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise CheckpointError(
            f"{checkpoint / TRAINER}: step is a number of updates, not {step!r}; take "
            "another checkpoint"
        )
    named = _NAME.fullmatch(checkpoint.name)
    if named is not None and int(named[1]) != step:
        raise CheckpointError(
            f"{checkpoint / TRAINER}: step is {step}, and the name of the folder says otherwise; "
            "take another checkpoint"
        )
    return step


def recorded_files(checkpoint: Path) -> Sequence[str]:
    """The names, without ending, of the files of tensors that a checkpoint consists of.

    Raises CheckpointError where it does not say, or where one is missing.
    """
    files = read_json(checkpoint / TRAINER).get(FILES)
    if not isinstance(files, list) or "model" not in files:
        raise CheckpointError(
            f"{checkpoint / TRAINER}: {FILES} lists the files of a checkpoint, and is "
            f"{files!r}; take another checkpoint"
        )
    if missing := [n for n in files if not os.path.isfile(checkpoint / f"{n}.safetensors")]:
        raise CheckpointError(
            f"{checkpoint} is not whole: {missing[0]}.safetensors is missing; restore it, or take "
            "another checkpoint"
        )
    return files


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
        text = read_regular(path).decode(errors="replace")
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


def _recorded_loss(checkpoint: Path) -> float | None:
    try:
        loss = read_json(checkpoint / TRAINER).get("loss")
    except CheckpointError:
        return None  # An old checkpoint that is broken must not keep a new one from being written.
    return loss if isinstance(loss, float) and math.isfinite(loss) else None


def names_a_checkpoint(path: Path) -> bool:
    """Whether a folder has the name of a checkpoint."""
    return _NAME.fullmatch(path.name) is not None


def named_checkpoints(folder: Path) -> list[Path]:
    """Everything with the name of a checkpoint, by step and then by revision."""
    if not os.path.isdir(folder):
        return []
    try:
        return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), key=_key)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from error


def _key(checkpoint: Path) -> tuple[int, int]:
    found = _NAME.fullmatch(checkpoint.name)
    if found is None:
        raise CheckpointError(f"{checkpoint} is no checkpoint: its name is not step-<updates>")
    return int(found[1]), int(found[2] or 1)


def _free_name(folder: Path, step: int) -> Path:
    there = [_key(path)[1] for path in named_checkpoints(folder) if step_of(path) == step]
    revision = f"-r{max(there) + 1}" if there else ""
    return folder / f"step-{step:08d}{revision}"


def _discard(folders: Iterable[Path]) -> None:
    for folder in list(folders):
        try:
            discard(folder)
        except OSError as error:
            _log.warning("%s could not be deleted: %s", folder, error.strerror)
