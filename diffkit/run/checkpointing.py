"""The state of training as files, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffkit.assembly.system import System
from diffkit.errors import CheckpointError
from diffkit.run.artifacts import fit_tensors, read_json, read_tensors, write_checkpoint
from diffkit.run.processes import Processes
from diffkit.spec.pipeline import TrainingSpec

State = Mapping[int, Mapping[str, Tensor]]


def training_tensors(
    system: System, average: System | None, optimizer: torch.optim.Optimizer, processes: Processes
) -> dict[str, Mapping[str, Tensor]]:
    """The files of a checkpoint that training can go on from; every process has to ask."""
    state = optimizer.state_dict()["state"]
    tensors = weights_of(system, average)
    tensors["optimizer"] = {
        f"{index}.{name}": value for index, named in state.items() for name, value in named.items()
    }
    return {name: processes.whole(values) for name, values in tensors.items()}


def write_training(
    run: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    progress: Mapping[str, Any],
    spec: TrainingSpec,
) -> Path:
    """Write a checkpoint of `training_tensors`; returns it. Raises CheckpointError."""
    written = {**progress, "groups": optimizer.state_dict()["param_groups"]}
    return write_checkpoint(run, int(progress["step"]), tensors, written, spec.keep, spec.keep_best)


def read_training(checkpoint: Path) -> tuple[dict[str, Any], State]:
    """The progress and the optimiser's state in a checkpoint. Raises CheckpointError."""
    progress = read_json(checkpoint / "trainer.json")
    if "groups" not in progress:
        raise CheckpointError(
            f"{checkpoint} holds weights only, no optimiser state; training cannot go on "
            "from it (a saved pipeline is for sampling)"
        )
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in read_tensors(checkpoint / "optimizer.safetensors").items():
        index, _, name = key.partition(".")
        if not index.isdecimal():
            raise CheckpointError(f"{checkpoint}: {key!r} is no name of an optimiser's state")
        state.setdefault(int(index), {})[name] = value
    return progress, state


def weights_of(system: System, average: System | None) -> dict[str, Mapping[str, Tensor]]:
    """The files of weights that a checkpoint holds."""
    tensors: dict[str, Mapping[str, Tensor]] = {"model": dict(system.state_dict())}
    if average is not None:
        tensors["ema"] = dict(average.state_dict())
    return tensors


def restore(system: System, path: Path) -> None:
    """Load the weights in a file into a system. Raises CheckpointError where they do not fit."""
    system.load_state_dict(fit_tensors(read_tensors(path), system.state_dict(), path))
