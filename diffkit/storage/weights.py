"""The weights of a pipeline: the latest, their moving average, and the updates behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffkit.assembly.modules import twin
from diffkit.assembly.system import System
from diffkit.core.weights import Nonfinite, load_state, state_of
from diffkit.helpers.files import write_json
from diffkit.helpers.lock import sole_writer
from diffkit.storage import fingerprint, run_directory
from diffkit.storage.checkpoint import WEIGHTS, fitting, weights_of
from diffkit.storage.ownership import refuse_foreign, refuse_to_hide


@dataclass(frozen=True)
class Continuation:
    """What training leaves beside the weights, on the host, for more training to go on from."""

    step: int
    seconds: float
    optimizer: Mapping[str, Tensor]
    times: Mapping[str, Tensor]


class Weights:
    """What training changes, and what checkpoints hold."""

    def __init__(self, system: System) -> None:
        self.system, self.steps = system, 0
        self.average: System | None = None
        """A copy of the system that follows as the moving average, where there is one."""
        self.continuation: Continuation | None = None
        """What another training goes on from."""

    @property
    def sampled(self) -> System:
        """What samples are drawn with: the average, where there is one."""
        return self.system if self.average is None else self.average

    def placed(self, device: torch.device) -> None:
        """Move them to a device."""
        for system in (self.system, self.average):
            if system is not None:
                system.placed(device)

    def follow(self, wanted: bool) -> None:
        """Have an average, or none: one that no longer follows must not be sampled with."""
        if not wanted:
            self.average = None
        elif self.average is None:
            self.average = twin(self.system).requires_grad_(False)

    def save(self, directory: Path, spec: dict[str, Any]) -> None:
        """Write a run directory of one checkpoint, with this spec.

        Raises CheckpointError: the directory holds a training run, or later weights, or cannot be
        written; what was there is untouched.
        """
        tensors = weights_of(self.system, self.average)
        progress = {"seconds": 0.0, **fingerprint.described(self.system.parts.latents)}
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
        # Both are looked at before either is taken.
        wanted = [name for name in WEIGHTS if name in files]
        fitted = {name: fitting(checkpoint, name, state, nonfinite) for name in wanted}
        load_state(self.system, fitted["model"])
        self.follow("ema" in files)
        if self.average is not None:
            load_state(self.average, fitted["ema"])
        self.steps, self.continuation = steps, None
