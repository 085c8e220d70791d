"""What in a directory is a run's own, and what is not to be touched."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path

from diffkit.errors import CheckpointError
from diffkit.helpers.files import cannot_write, read_json
from diffkit.storage.run_directory import (
    CHECKPOINTS,
    SPEC,
    SUPERSEDED,
    TRAINER,
    checkpoints,
    named_checkpoints,
    names_a_checkpoint,
    read_metrics,
    step_of,
)

_log = logging.getLogger("diffkit")


def set_aside_after(run: Path, step: int) -> None:
    """Move checkpoints of later updates out of the way of training that goes on from `step`."""
    later = [path for path in checkpoints(run) if step_of(path) > step]
    if not later:
        return
    folder = run / SUPERSEDED
    try:
        folder.mkdir(exist_ok=True)
        for path in later:
            ends = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
            names = (folder / f"{path.name}{end}" for end in ends)
            path.rename(next(name for name in names if not name.exists()))
    except OSError as error:
        raise cannot_write(folder, error) from error
    moved = ", ".join(path.name for path in later)
    _log.warning("training goes back behind %s, which now lie in %s", moved, folder)


def refuse_to_hide(run: Path, step: int) -> None:
    """Raise CheckpointError where saved weights would replace or lie behind what `run` holds.

    The checkpoints of training hold the optimiser's state, which saved weights do not; and of
    several checkpoints the one with the most updates is loaded.
    """
    for path in checkpoints(run):
        if (path / "optimizer.safetensors").exists() or step_of(path) > step:
            raise CheckpointError(
                f"{run} holds {path.name} already, from training or with more updates than these "
                f"weights ({step}); save to another directory"
            )


def refuse_foreign(run: Path) -> None:
    """Raise CheckpointError where a directory holds what diffkit did not write, or is a part of a
    run itself: nothing of that is ever replaced.
    """
    whole = run.resolve()
    if (whole / TRAINER).exists() or names_a_checkpoint(whole):
        raise CheckpointError(
            f"{run} is a checkpoint; name its run, {whole.parent.parent}, and choose it there "
            "(checkpoint, --checkpoint)"
        )
    if whole.name in (CHECKPOINTS, SUPERSEDED) and (whole.parent / SPEC).exists():
        raise CheckpointError(f"{run} is a part of a run; name the run {whole.parent}")
    if os.path.lexists(run / SPEC) and "schedule" not in read_json(run / SPEC):
        raise CheckpointError(f"{run / SPEC} is none of diffkit's; choose another directory")
    for path in named_checkpoints(run / CHECKPOINTS):
        if not os.path.lexists(path / TRAINER):
            raise CheckpointError(
                f"{path} is no checkpoint of diffkit's, or not whole: it has no {TRAINER}; move it "
                "away, or choose another directory"
            )


def lost_checkpoints(run: Path) -> int | None:
    """The last update of a run whose checkpoints must have been there, and are not; else None."""
    folder = run / CHECKPOINTS
    try:
        every = int(read_json(run / SPEC)["training"]["checkpoint_every"])
    except (CheckpointError, KeyError, TypeError, ValueError):
        every = 1
    last = max((int(line["step"]) for line in read_metrics(run)), default=0)
    gone = last >= every or (run / SUPERSEDED).exists() or folder.is_symlink()
    gone |= os.path.lexists(folder) and not os.path.isdir(folder)
    return last if gone and not checkpoints(run) else None
