"""Run directories: written so that a crash at any moment leaves only whole files.

RUN/spec.json                      every default written out, with provenance
RUN/metrics.jsonl                  one line each time metrics were taken
RUN/.lock                          held by the process that trains
RUN/checkpoints/step-00001000/     model.safetensors, ema.safetensors, optimizer.safetensors,
                                   trainer.json; times.safetensors, if those learn
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from diffkit.errors import CheckpointError

SPEC = "spec.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
_STEP = re.compile(r"step-(\d{8})")


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file or none: to a temporary name, synced, then renamed.

    Raises:
        CheckpointError: the disk is full, the folder is read-only ...; an earlier file stays.
    """
    stream_file(path, lambda file: file.write(content))


def stream_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """As `write_file`, with content that `write` writes to an open file.

    What `write` raises passes through; the temporary file is then gone.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        _remove(temporary)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a mapping as JSON, as `write_file` does."""
    write_file(path, (json.dumps(data, indent=2) + "\n").encode())


def write_checkpoint(
    run: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    progress: Mapping[str, Any],
    keep: int,
    keep_best: int = 0,
) -> Path:
    """Write a checkpoint folder whole or not at all, then delete all but the last `keep` and the
    `keep_best` with the least `loss` in their progress.

    `tensors` maps file names (without ending) to named tensors. Raises CheckpointError; earlier
    checkpoints stay.
    """
    folder = run / CHECKPOINTS
    final = folder / f"step-{step:08d}"
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    try:
        _remove(temporary)
        temporary.mkdir(parents=True)
        for name, named in tensors.items():
            whole = {key: value.detach().cpu().contiguous() for key, value in named.items()}
            write_file(temporary / f"{name}.safetensors", save_safetensors(whole))
        write_json(temporary / "trainer.json", progress)
        replaced = folder / f".{final.name}.{os.getpid()}.old"
        if final.exists():
            final.rename(replaced)
        temporary.replace(final)
        _sync_folder(folder)
        _remove(replaced)
    except OSError as error:
        _remove(temporary)
        raise _cannot_write(final, error) from error
    except CheckpointError:
        _remove(temporary)
        raise
    found = checkpoints(run)
    for old in set(found[:-keep]) - set(best_checkpoints(run)[:keep_best]):
        # Deleting a folder takes several steps, and a process can be killed between any two.
        hidden = folder / f".{old.name}.{os.getpid()}.tmp"
        old.rename(hidden)
        _remove(hidden)
    return final


def best_checkpoints(run: Path) -> list[Path]:
    """The checkpoints that recorded a loss, the one with the least first."""
    losses = {path: _recorded_loss(path) for path in checkpoints(run)}
    rated = {path: loss for path, loss in losses.items() if loss is not None}
    return sorted(rated, key=lambda path: rated[path])


def _recorded_loss(checkpoint: Path) -> float | None:
    try:
        loss = read_json(checkpoint / "trainer.json").get("loss")
    except CheckpointError:
        return None  # An old checkpoint that is broken must not keep a new one from being written.
    return float(loss) if isinstance(loss, int | float) else None


def clear_remains(run: Path) -> None:
    """Delete what processes that were killed left half written. Only for the one that writes."""
    for folder in (run, run / CHECKPOINTS):
        for path in folder.glob(".*.tmp") if folder.is_dir() else ():
            _remove(path)
    for path in (run / CHECKPOINTS).glob(".*.old"):
        # Killed between two renames: what was to be replaced is whole, and so comes back.
        final = path.with_name(path.name.removeprefix(".").split(".")[0])
        if final.exists():
            _remove(path)
        else:
            path.rename(final)


def refuse_to_hide(run: Path, step: int) -> None:
    """Raise CheckpointError where saved weights would replace or lie behind what `run` holds.

    The checkpoints of training hold the optimiser's state, which saved weights do not; and of
    several checkpoints the one with the most updates is loaded.
    """
    for path in checkpoints(run):
        if (path / "optimizer.safetensors").exists() or path.name > f"step-{step:08d}":
            raise CheckpointError(
                f"{run} holds {path.name} already, from training or with more updates than these "
                f"weights ({step}); save to another directory"
            )


def checkpoints(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first. Half-written ones never bear such a name."""
    folder = run / CHECKPOINTS
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _STEP.fullmatch(path.name))


def latest_checkpoint(run: Path) -> Path:
    """The newest checkpoint. Raises CheckpointError where there is none."""
    if not run.is_dir():
        raise CheckpointError(f"{run}: there is no such run directory")
    found = checkpoints(run)
    if not found:
        raise CheckpointError(f"{run}: it holds no checkpoint; train it first, or save a pipeline")
    return found[-1]


def chosen_checkpoint(run: Path, which: str | int) -> Path:
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
        if isinstance(which, int) and path.name == f"step-{which:08d}":
            return path
    kept = ", ".join(str(int(path.name.removeprefix("step-"))) for path in checkpoints(run))
    raise CheckpointError(
        f"{run}: there is no checkpoint {which!r}; take last, best, or one of the steps {kept}"
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; no other format is ever read.

    Raises:
        CheckpointError: the file is missing, truncated, or of another format.
    """
    try:
        return load_safetensors(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); nothing of it was used. "
            "Restore it, or take an earlier checkpoint"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file. Raises CheckpointError."""
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: it should hold a mapping")
    return data


def recorded_step(checkpoint: Path) -> int:
    """How many updates a checkpoint was made after. Raises CheckpointError."""
    step = read_json(checkpoint / "trainer.json").get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise CheckpointError(
            f"{checkpoint / 'trainer.json'}: step is a number of updates, not {step!r}; take "
            "another checkpoint"
        )
    return step


def fit_tensors(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """`found`, where names and shapes are those of `wanted`. Raises CheckpointError otherwise."""
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    other = [k for k in wanted if k in found and found[k].shape != wanted[k].shape]
    if missing or extra or other:
        parts = [
            f"{what} {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
            for what, names in (("lacks", missing), ("has besides", extra), ("differs in", other))
            if names
        ]
        raise CheckpointError(f"{path} does not fit the spec: it {'; it '.join(parts)}")
    return {name: found[name].to(wanted[name].dtype) for name in wanted}


def append_metrics(run: Path, metrics: Mapping[str, float]) -> None:
    """Add one line to the metrics. Raises CheckpointError."""
    path = run / METRICS
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(metrics) + "\n")
    except OSError as error:
        raise _cannot_write(path, error) from error


def read_metrics(run: Path) -> list[dict[str, float]]:
    """The metrics of a run, oldest first; a last line cut short by a crash is left out."""
    path = run / METRICS
    if not path.exists():
        return []
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def drop_metrics_after(run: Path, step: int) -> None:
    """Forget the metrics of updates that a resumed run will make again."""
    kept = [line for line in read_metrics(run) if line.get("step", 0) <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    if (run / METRICS).exists():
        write_file(run / METRICS, text.encode())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be written: {error.strerror}; what was there before is untouched"
    )
