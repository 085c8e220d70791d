"""The state of training as files, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffkit.assembly.system import System
from diffkit.core.weights import Nonfinite, fit_tensors, read_tensors, state_of
from diffkit.errors import CheckpointError
from diffkit.helpers.files import read_json
from diffkit.storage.run_directory import SPEC, TRAINER, recorded_files, write_checkpoint

WEIGHTS, OPTIMIZER = ("model", "ema"), "optimizer"
STATEFUL = "stateful"
"""The key of the names of the weights that the optimiser has state of."""
LaidOut = Callable[[Tensor, Tensor], Tensor]
"""A tensor, in the memory layout of another of its shape."""
_NOT_NEGATIVE = ("step", "exp_avg_sq", "max_exp_avg_sq")
"""Of an optimiser's state: counts, and means of squares, of which roots are taken."""


def weights_of(system: System, average: System | None) -> dict[str, Mapping[str, Tensor]]:
    """The files of weights that a checkpoint holds."""
    tensors: dict[str, Mapping[str, Tensor]] = {"model": state_of(system)}
    if average is not None:
        tensors["ema"] = state_of(average)
    return tensors


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


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Sequence[str]) -> dict[str, Tensor]:
    """The state of an optimiser, as `<name of the weight>.<name of the state>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{names[index]}.{key}": torch.as_tensor(value)
        for index, named in state.items()
        for key, value in named.items()
    }


def optimizer_groups(
    optimizer: torch.optim.Optimizer, names: Sequence[str]
) -> list[dict[str, Any]]:
    """The settings that an optimiser has, and the weights that each group of them is for."""
    groups = optimizer.state_dict()["param_groups"]
    return [{**group, "params": [names[i] for i in group["params"]]} for group in groups]


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    names: Sequence[str],
    found: Mapping[str, Tensor],
    where: str | Path,
    laid_out: LaidOut,
) -> None:
    """Take over the state that `optimizer_tensors` gave; the settings stay those of `optimizer`.

    A fused kernel goes through weights and state side by side, and does not look at sizes: every
    tensor is held against its weight first, by name, shape and dtype, and then laid out as the
    weight is.

    Raises:
        CheckpointError: a tensor is missing, left over, of another shape or dtype, or holds what no
            optimiser leaves there.
    """
    _initialise(optimizer)
    # A weight that never had a gradient has no state; one that has some has all of it.
    stateful = {name.rpartition(".")[0] for name in found}
    wanted = {
        name: torch.zeros((), dtype=value.dtype).expand(value.shape)
        for name, value in optimizer_tensors(optimizer, names).items()
        if name.rpartition(".")[0] in stateful
    }
    fitted = fit_tensors(found, wanted, where, same_dtype=True)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    index_of = {name: index for index, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in fitted.items():
        weight, _, key = name.rpartition(".")
        if key in _NOT_NEGATIVE and bool((value < 0).any()):
            raise CheckpointError(f"{where}: {name} holds negative numbers; take another one")
        like = weights[index_of[weight]]
        whole = laid_out(value, like) if value.shape == like.shape else value
        state.setdefault(index_of[weight], {})[key] = whole
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def write_training(
    run: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    spec: Mapping[str, Any],
    progress: Mapping[str, Any],
) -> Path:
    """Write a checkpoint that training can go on from; returns it. Raises CheckpointError."""
    stateful = sorted({name.rpartition(".")[0] for name in tensors[OPTIMIZER]})
    return write_checkpoint(run, step, tensors, {SPEC: spec}, {**progress, STATEFUL: stateful})


def read_training(
    checkpoint: Path, names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The progress and the optimiser's state in a checkpoint of a network with these weights.

    Raises CheckpointError.
    """
    progress = read_json(checkpoint / TRAINER)
    if OPTIMIZER not in recorded_files(checkpoint) or "groups" not in progress:
        raise CheckpointError(
            f"{checkpoint} holds weights only, no optimiser state; training cannot go on "
            "from it (a saved pipeline is for sampling)"
        )
    _check_groups(progress["groups"], names, checkpoint / TRAINER)
    seconds = progress.get("seconds")
    if not isinstance(seconds, float) or not 0.0 <= seconds < math.inf:
        raise CheckpointError(f"{checkpoint / TRAINER}: seconds are {seconds!r}, and no time")
    path = checkpoint / f"{OPTIMIZER}.safetensors"
    found = read_tensors(path)
    if sorted({name.rpartition(".")[0] for name in found}) != progress.get(STATEFUL):
        raise CheckpointError(
            f"{path} has not the state of the weights that {TRAINER} beside it names; restore it, "
            "or take another checkpoint"
        )
    return progress, found


def _check_groups(groups: Any, names: Sequence[str], where: Path) -> None:
    """Raise CheckpointError where the weights are not those of the network, in its order."""
    try:
        recorded = [str(name) for group in groups for name in group["params"]]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{where}: groups do not list weights: {error}") from error
    for position, name in enumerate(names):
        found = recorded[position] if position < len(recorded) else "nothing"
        if found != name:
            raise CheckpointError(
                f"{where}: the weight number {position} of the optimiser is {found}, and the "
                f"network has {name} there; take another checkpoint"
            )
    if len(recorded) > len(names):
        raise CheckpointError(
            f"{where}: the optimiser has {recorded[len(names)]} besides, which the network has not"
        )


def _initialise(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimiser lay out its state: by a step of length 0 with gradients of 0."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
