"""One training session: from the lock on its directory to the weights that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffkit.assembly.system import System
from diffkit.core.dataset import Dataset
from diffkit.errors import CheckpointError, TrainingInterrupted
from diffkit.plugins.events import Events
from diffkit.run import artifacts
from diffkit.run.processes import Processes
from diffkit.run.sinks import tensorboard_sink
from diffkit.run.training import Trainer
from diffkit.spec.pipeline import PipelineSpec


@dataclass(frozen=True)
class Run:
    """What observers are told."""

    directory: Path | None
    spec: Mapping[str, Any]


def checkpoint_to_resume(directory: Path, resume: bool, processes: Processes) -> Path | None:
    """The latest checkpoint in a directory; None where a run is to begin there.

    Raises CheckpointError where there is none, or where a run is there already.
    """
    if processes.first:
        artifacts.clear_remains(directory)
    processes.wait()
    if resume:
        return artifacts.latest_checkpoint(directory)
    if artifacts.checkpoints(directory) or (directory / artifacts.METRICS).exists():
        raise CheckpointError(
            f"{directory} holds a run already; resume it (resume=True, --resume), or choose "
            "another directory"
        )
    return None


class Session:
    """Trains a system and its average with these processes, and leaves the weights in them."""

    def __init__(
        self,
        *,
        system: System,
        average: System | None,
        dataset: Dataset,
        spec: PipelineSpec,
        directory: Path | None,
        processes: Processes,
        events: Events,
    ) -> None:
        self._given = [module for module in (system, average) if module is not None]
        self._processes = processes
        self._trained = [processes.trained(module) for module in self._given]
        first, followed = self._trained[0], [*self._trained, None][1]
        assert isinstance(first, System)
        assert followed is None or isinstance(followed, System)
        keeps = directory is not None and processes.first
        self._trainer = Trainer(
            system=first,
            average=followed,
            dataset=dataset,
            spec=spec.training,
            seed=spec.seed,
            run=Run(directory, spec.model_dump(mode="json")),
            events=events,
            processes=processes,
            sinks=tensorboard_sink(directory) if directory is not None and keeps else (),
        )

    @property
    def steps(self) -> int:
        """How many updates have been made."""
        return self._trainer.progressed.step

    def run(self, resumed: Path | None, show: bool | None) -> None:
        """Train to the end; `resumed` holds the optimiser's state to go on from."""
        if resumed is not None:
            self._trainer.resume(resumed)
        try:
            self._trainer.train(show=show)
        except TrainingInterrupted:
            self._give_back()
            raise
        self._give_back()

    def _give_back(self) -> None:
        for trained, module in zip(self._trained, self._given, strict=True):
            self._processes.given_back(trained, module)
