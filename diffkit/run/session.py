"""One training session: from what it goes on from to the weights that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffkit.assembly.system import System
from diffkit.core.dataset import Dataset
from diffkit.errors import TrainingInterrupted
from diffkit.plugins.events import Events
from diffkit.run import artifacts
from diffkit.run.artifacts import drop_metrics_after
from diffkit.run.claims import set_aside_after
from diffkit.run.files import write_json
from diffkit.run.memory import Memory
from diffkit.run.processes import Processes
from diffkit.run.sinks import sinks_of
from diffkit.run.training import Trainer
from diffkit.spec.pipeline import PipelineSpec


@dataclass(frozen=True)
class Run:
    """What observers are told."""

    directory: Path | None
    spec: Mapping[str, Any]


class Session:
    """Trains a system and its average with these processes, and leaves the weights in them.

    Making one looks at everything and writes nothing; `run` writes.
    """

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
        goes_on_from: Path | Memory | None,
        described: Mapping[str, Any],
        made: Callable[[int], None],
    ) -> None:
        self._given = [module for module in (system, average) if module is not None]
        self._processes, self._directory = processes, directory
        self._trained = [processes.trained(module) for module in self._given]
        first, followed = self._trained[0], [*self._trained, None][1]
        assert isinstance(first, System)
        assert followed is None or isinstance(followed, System)
        before = goes_on_from.step if isinstance(goes_on_from, Memory) else 0
        steps = spec.training.steps + before
        training = spec.training.model_copy(update={"steps": steps})
        self._spec = spec.model_copy(update={"training": training}).model_dump(mode="json")
        self._writes = directory is not None and processes.first
        self._trainer = Trainer(
            system=first,
            average=followed,
            dataset=dataset,
            spec=spec.training,
            seed=spec.seed,
            run=Run(directory, self._spec),
            events=events,
            processes=processes,
            sinks=sinks_of(directory) if directory is not None and processes.first else (),
            described=described,
            made=made,
        )
        if isinstance(goes_on_from, Memory):
            self._trainer.go_on(goes_on_from)
        elif goes_on_from is not None:
            self._trainer.resume(goes_on_from)

    def run(self, show: bool | None) -> None:
        """Train to the end, and leave the weights in the system."""
        if self._directory is not None and self._writes:
            self._prepare(self._directory)
        try:
            self._trainer.train(show=show)
        except TrainingInterrupted:
            self._give_back()
            raise
        self._give_back()

    def memory(self) -> Memory | None:
        """What another session can go on from, if it can."""
        return self._trainer.memory()

    def _prepare(self, directory: Path) -> None:
        """The first that is written: everything that could refuse the run has been asked."""
        step = self._trainer.progressed.step
        artifacts.clear_run(directory)
        set_aside_after(directory, step)
        drop_metrics_after(directory, step)
        write_json(directory / artifacts.SPEC, self._spec)

    def _give_back(self) -> None:
        for trained, module in zip(self._trained, self._given, strict=True):
            self._processes.given_back(trained, module)
