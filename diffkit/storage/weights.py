"""The weights of a pipeline: the latest, their moving average, and the updates behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffkit.assembly.modules import refuse_divided, twin
from diffkit.assembly.system import System
from diffkit.core.weights import Nonfinite, fit_tensors, load_state, state_of
from diffkit.errors import SpecError
from diffkit.helpers.files import write_json
from diffkit.helpers.lock import sole_writer
from diffkit.storage import fingerprint, run_directory
from diffkit.storage.checkpoint import AVERAGES, MODEL, averages_in, fitting, weights_of
from diffkit.storage.optimizer_state import OptimizerState
from diffkit.storage.ownership import refuse_foreign, refuse_to_hide

LATEST = "latest"
"""What the weights in training are called beside their averages."""
_GATHER = (
    "gather them (get_model_state_dict of torch.distributed.checkpoint.state_dict, "
    "full_state_dict=True) into a pipeline that is not divided, and ask that one"
)


@dataclass(frozen=True)
class Continuation:
    """What training leaves beside the weights, on the host, for more training to go on from."""

    step: int
    seconds: float
    optimizer: OptimizerState
    times: Mapping[str, Tensor]


class Weights:
    """What training changes, and what checkpoints hold."""

    def __init__(self, system: System) -> None:
        self.system, self.steps = system, 0
        self.averages: dict[str, System] = {}
        """Copies of the system that follow it, by name; the first is sampled with."""
        self.preferred: str | None = None
        """The average that samples are drawn with, where it is not the first."""
        self.continuation: Continuation | None = None
        """What another training goes on from."""

    @property
    def average(self) -> System | None:
        """The first average, where there is one."""
        return next(iter(self.averages.values()), None)

    def sampled(self, name: str | None = None) -> System:
        """What samples are drawn with: the average of this name, else the preferred or first one.

        Without any the weights themselves, and where the name is `latest`. Raises SpecError.
        """
        name = self.preferred if name is None else name
        if name == LATEST or (name is None and not self.averages):
            refuse_divided(self.system, "sampling", _GATHER)
            return self.system
        chosen = [self.averages[full] for full in self.averages if _is_called(full, name)]
        if not chosen:
            there = ", ".join(self.averages) or "none"
            raise SpecError(
                [
                    f"average: there is no {name!r}; the averages are: {there}, and {LATEST} is "
                    "the weights themselves"
                ]
            )
        return chosen[0]

    def placed(self, device: torch.device) -> None:
        """Move them to a device."""
        for system in (self.system, *self.averages.values()):
            system.placed(device)

    def follow(self, names: Iterable[str]) -> None:
        """Have these averages: one that no longer follows must not be sampled with."""
        known = self.averages
        self.averages = {
            name: known.get(name) or twin(self.system).requires_grad_(False) for name in names
        }
        if not any(_is_called(name, self.preferred) for name in (*self.averages, LATEST)):
            self.preferred = None

    def take_average(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Have an average of this name with this state, before all others.

        Raises CheckpointError where that is not the state of the system.
        """
        state = fit_tensors(state, state_of(self.system), f"the state of the average {name}")
        made = twin(self.system).requires_grad_(False)
        load_state(made, state)
        self.averages = {name: made, **self.averages}

    def save(self, directory: Path, spec: dict[str, Any]) -> None:
        """Write a run directory of one checkpoint, with this spec.

        Raises CheckpointError: the directory holds a training run, or later weights, or cannot be
        written; what was there is untouched. Raises ComponentError: the weights are divided.
        """
        refuse_divided(self.system, "saving", _GATHER)
        tensors = weights_of(self.system, self.averages)
        averages = {AVERAGES: list(self.averages)}
        progress = {"seconds": 0.0, **averages, **fingerprint.described(self.system.parts.latents)}
        with sole_writer(directory):
            refuse_foreign(directory)
            refuse_to_hide(directory, self.steps)
            records = {run_directory.SPEC: spec}
            run_directory.write_checkpoint(directory, self.steps, tensors, records, progress)
            write_json(directory / run_directory.SPEC, spec)

    def restore(self, checkpoint: Path, nonfinite: Nonfinite = "refuse") -> None:
        """Take those of a checkpoint folder.

        Raises CheckpointError where they do not fit, or are not finite unless that is allowed.
        """
        files = run_directory.recorded_files(checkpoint)
        steps = run_directory.recorded_step(checkpoint)
        if (latents := self.system.parts.latents) is not None:
            fingerprint.check_autoencoder(checkpoint, latents)
        state = state_of(self.system)
        # All are looked at before one is taken.
        names = averages_in(checkpoint, files)
        fitted = {n: fitting(checkpoint, n, state, nonfinite) for n in (MODEL, *names)}
        load_state(self.system, fitted[MODEL])
        self.follow(names)
        for name, average in self.averages.items():
            load_state(average, fitted[name])
        self.steps, self.continuation = steps, None


def _is_called(full: str, name: str | None) -> bool:
    """Whether an average has this name; that of a component stands for its first track."""
    return name is None or full == name or full.startswith(f"{name}-")
