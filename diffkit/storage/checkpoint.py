"""The state of training as files, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from diffkit.assembly.system import System
from diffkit.core.weights import Nonfinite, fit_tensors, read_tensors, state_of
from diffkit.errors import CheckpointError
from diffkit.helpers.files import read_json
from diffkit.storage.optimizer_state import OptimizerState
from diffkit.storage.run_directory import SPEC, TRAINER, recorded_files, write_checkpoint

MODEL, OPTIMIZER = "model", "optimizer"
"""The file of the weights in training; that of the optimiser's state, and the key of its record."""
AVERAGES = "averages"
"""The key of the names of the averages, which are those of their files."""


def weights_of(system: System, averages: Mapping[str, System]) -> dict[str, Mapping[str, Tensor]]:
    """The files of weights that a checkpoint holds."""
    followed = {name: state_of(average) for name, average in averages.items()}
    return {MODEL: state_of(system), **followed}


def fitting(
    checkpoint: Path, name: str, wanted: Mapping[str, Tensor], nonfinite: Nonfinite
) -> dict[str, Tensor]:
    """A file of weights for a system with this state. Raises CheckpointError where it is not."""
    path = checkpoint / f"{name}.safetensors"
    advice = (
        "; take another checkpoint (checkpoint='best', or a step), or, to look at these on "
        "purpose, load them with nonfinite='allow'"
    )
    return fit_tensors(read_tensors(path), wanted, path, nonfinite=nonfinite, advice=advice)


def write_training(
    run: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    spec: Mapping[str, Any],
    progress: Mapping[str, Any],
) -> Path:
    """Write a checkpoint that training can go on from; returns it. Raises CheckpointError."""
    return write_checkpoint(run, step, tensors, {SPEC: spec}, progress)


def read_training(checkpoint: Path) -> tuple[dict[str, Any], OptimizerState]:
    """The progress and the optimiser's state in a checkpoint. Raises CheckpointError."""
    progress = read_json(checkpoint / TRAINER)
    record = progress.get(OPTIMIZER)
    if OPTIMIZER not in recorded_files(checkpoint) or not isinstance(record, dict):
        raise CheckpointError(
            f"{checkpoint} holds weights only, no optimiser state; training cannot go on "
            "from it (a saved pipeline is for sampling)"
        )
    seconds = progress.get("seconds")
    if not isinstance(seconds, float) or not 0.0 <= seconds < math.inf:
        raise CheckpointError(f"{checkpoint / TRAINER}: seconds are {seconds!r}, and no time")
    found = read_tensors(checkpoint / f"{OPTIMIZER}.safetensors")
    return progress, OptimizerState(found, record)


def averages_in(checkpoint: Path, files: Sequence[str]) -> tuple[str, ...]:
    """The names of the averages in a checkpoint of these files, the first sampled with.

    Raises CheckpointError.
    """
    names = read_json(checkpoint / TRAINER).get(AVERAGES, [])
    if not isinstance(names, list) or any(n not in files for n in names):
        raise CheckpointError(
            f"{checkpoint / TRAINER}: {AVERAGES} lists the files of averages, and is {names!r}; "
            "take another checkpoint"
        )
    return tuple(names)
