"""Mistakes of observers."""

from __future__ import annotations

from diffkit.core import Observer

from .mutant import Mutant


class Logs(Observer):
    """A right one: logs what the loss lost."""

    def diffkit_run_start(self) -> None:
        self._last = None

    def diffkit_step(self, run, metrics) -> None:
        if self._last is not None:
            run.log("fall", self._last - metrics["loss"])
        self._last = metrics["loss"]


class Writes(Observer):
    """A right one: a file of its own."""

    def diffkit_step(self, run, step) -> None:
        if run.directory is not None:
            (run.directory / "mine.txt").write_text(str(step))


class Misspelled(Observer):
    def diffkit_stpe(self, run) -> None:
        pass


class Later(Observer):
    async def diffkit_step(self, run) -> None:
        pass


class NoHooks(Observer):
    def on_step(self, run) -> None:
        pass


class NeedsADirectory(Observer):
    def diffkit_step(self, run, step) -> None:
        (run.directory / "mine.txt").write_text(str(step))


class NeedsAMetric(Observer):
    def diffkit_step(self, run, metrics) -> None:
        run.log("images", metrics["images"])


class MakesItsFolderOnce(Observer):
    def diffkit_run_start(self, run) -> None:
        if run.directory is not None:
            (run.directory / "mine").mkdir()


class WritesTheSpec(Observer):
    def diffkit_run_start(self, run) -> None:
        if run.directory is not None:
            (run.directory / "spec.json").write_text("{}")


class RemembersTheLastRun(Logs):
    _last = None

    def diffkit_run_start(self) -> None:
        pass


RIGHT = (Logs, Writes)
MUTANTS = (
    Mutant(Misspelled, "a hook that there is not"),
    Mutant(Later, "a coroutine, which is never run"),
    Mutant(NoHooks, "no hook at all"),
    Mutant(NeedsADirectory, "a file where there is no directory"),
    Mutant(NeedsAMetric, "a metric that there is not"),
    Mutant(MakesItsFolderOnce, "a folder that cannot be made again at resume"),
    Mutant(WritesTheSpec, "the run's own spec written over"),
    Mutant(RemembersTheLastRun, "what it knew of the run before"),
)
