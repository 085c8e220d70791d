"""One training session: from what it goes on from to the weights that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffkit.assembly.system import System
from diffkit.config.spec import PipelineSpec
from diffkit.core.dataset import Dataset
from diffkit.distributed.world import World
from diffkit.errors import TrainingInterrupted
from diffkit.helpers.files import write_json
from diffkit.plugins.events import Events
from diffkit.storage import run_directory
from diffkit.storage.ownership import set_aside_after
from diffkit.storage.run_directory import drop_metrics_after
from diffkit.training.metric_log import sinks_of
from diffkit.training.state import Continuation
from diffkit.training.trainer import Trainer


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
        world: World,
        events: Events,
        goes_on_from: Path | Continuation | None,
        described: Mapping[str, Any],
        made: Callable[[int], None],
    ) -> None:
        self._given = [module for module in (system, average) if module is not None]
        self._world, self._directory = world, directory
        self._trained = [world.shard(module) for module in self._given]
        first, followed = self._trained[0], [*self._trained, None][1]
        assert isinstance(first, System)
        assert followed is None or isinstance(followed, System)
        before = goes_on_from.step if isinstance(goes_on_from, Continuation) else 0
        steps = spec.training.steps + before
        training = spec.training.model_copy(update={"steps": steps})
        self._spec = spec.model_copy(update={"training": training}).model_dump(mode="json")
        self._writes = directory is not None and world.is_main
        self._trainer = Trainer(
            system=first,
            average=followed,
            dataset=dataset,
            spec=spec.training,
            seed=spec.seed,
            run=Run(directory, self._spec),
            events=events,
            world=world,
            sinks=sinks_of(directory) if directory is not None and world.is_main else (),
            described=described,
            made=made,
        )
        if isinstance(goes_on_from, Continuation):
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

    def continuation(self) -> Continuation | None:
        """What another session can go on from, if it can."""
        return self._trainer.continuation()

    def _prepare(self, directory: Path) -> None:
        """The first that is written: everything that could refuse the run has been asked."""
        step = self._trainer.state.step
        run_directory.clear_run(directory)
        set_aside_after(directory, step)
        drop_metrics_after(directory, step)
        write_json(directory / run_directory.SPEC, self._spec)

    def _give_back(self) -> None:
        for trained, module in zip(self._trained, self._given, strict=True):
            self._world.unshard_into(trained, module)
