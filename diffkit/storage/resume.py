"""What training goes on from, and what of its spec may be another than before."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from diffkit.errors import CheckpointError
from diffkit.helpers.files import read_json
from diffkit.storage import run_directory
from diffkit.storage.ownership import lost_checkpoints, refuse_foreign

FREE = frozenset(
    {
        *("sampler", "spacing", "steps", "guidance", "metric", "features", "compile"),
        *("precision", "provenance", "clip"),
    }
)
"""The fields of a spec that say nothing of the weights, or that decide how and not what is
computed: they may change at resume."""
FREE_TRAINING = frozenset(
    {
        *("steps", "max_seconds", "accumulate", "learning_rate"),
        *("warmup_steps", "clip_norm", "averages", "condition_dropout", "latents"),
        *(
            "augmentations",
            "observers",
            "log_every",
            "checkpoint_every",
            "keep",
            "keep_best",
            "nonfinite",
        ),
    }
)
"""Those of `training`. The rest, the batch size and the optimiser, places the data and shapes the
optimiser's state; an optimiser's configuration may change, and its state fits or is refused."""
UNREMARKABLE = frozenset(
    f"training.{name}"
    for name in (
        *("steps", "max_seconds", "log_every", "checkpoint_every", "keep", "keep_best"),
        "observers",
    )
)
"""What people change whenever they resume; it is recorded without a word."""


def checkpoint_to_resume(
    directory: Path, resume: bool, which: run_directory.Which = "last"
) -> Path | None:
    """The checkpoint to go on from; None where a run begins in a directory, or begins again.

    Raises CheckpointError where there is nothing to resume, or where a run is there already.
    """
    refuse_foreign(directory)
    if not resume:
        if run_directory.holds_a_run(directory):
            raise CheckpointError(
                f"{directory} holds a run already; resume it (resume=True, --resume), or choose "
                "another directory"
            )
        return None
    if (last := lost_checkpoints(directory)) is not None:
        raise CheckpointError(
            f"{directory} was trained to update {last}, and its checkpoints are not there; put the "
            f"folder {run_directory.CHECKPOINTS} back, or train in another directory"
        )
    if run_directory.holds_a_run(directory) and not run_directory.checkpoints(directory):
        warnings.warn(
            f"{directory}: training ended before the first checkpoint; it begins again",
            stacklevel=2,
        )
        return None
    return run_directory.chosen_checkpoint(directory, which)


def check_changes(
    checkpoint: Path, asked: Mapping[str, Any], same_data: Callable[[], bool]
) -> None:
    """Compare the spec that training is to go on with, in JSON form, with that of a checkpoint.

    What may change and does is said, and so is what the recorded spec knows nothing of.
    `same_data` says whether a dataset with other arguments has the same samples, as one that was
    moved has.

    Raises:
        CheckpointError: something changes that the weights, the optimiser's state or the order of
            the data depend on; with every such field and both values.
    """
    recorded = read_json(checkpoint / run_directory.SPEC)
    fixed, said, moved = [], [], []
    for path, before, now in _changes(recorded, asked, ""):
        change = f"{path} was {_short(before)} and is {_short(now)}"
        if _unremarkable(path) or path.startswith("provenance"):
            continue
        if path.startswith("dataset"):
            moved.append(change)
        elif before is _ABSENT or _is_free(path):
            said.append(change)
        else:
            fixed.append(change)
    (said if moved and same_data() else fixed).extend(moved)
    run = checkpoint.parent.parent
    if fixed:
        raise CheckpointError(
            f"{run} cannot be resumed with another spec: {'; '.join(fixed)}. Take what it was "
            "trained with (diffkit.load reads it), or begin another run in another directory"
        )
    if said:
        warnings.warn(
            f"{run} is resumed with changes, which are applied and recorded: {'; '.join(said)}",
            stacklevel=2,
        )


class _Absent:
    """What stands where a spec has no such key."""

    def __repr__(self) -> str:
        return "not there"


_ABSENT = _Absent()


def _unremarkable(path: str) -> bool:
    return path in UNREMARKABLE or path.startswith("training.observers.")


def _is_free(path: str) -> bool:
    field, _, rest = path.partition(".")
    if path.startswith("training.optimizer.config"):
        return True
    return field in FREE or (field == "training" and rest.partition(".")[0] in FREE_TRAINING)


def _changes(before: Any, now: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Every leaf that differs, with its path and both values."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            inner = before.get(key, _ABSENT), now.get(key, _ABSENT)
            yield from _changes(*inner, f"{path}.{key}".strip("."))
    elif before != now or isinstance(before, bool) is not isinstance(now, bool):
        yield path, before, now


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
