"""The laws of observers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from diffkit.core.observer import HOOK, Observer
from diffkit.plugins.events import Events
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import require
from diffkit.testing.usages.training import NotedRun, watched


@check
def its_hooks_are_hooks(subject: ComponentUnderTest) -> None:
    """Every method that is called like a hook is one, and it has one at least."""
    observer: Observer = subject.make()
    failures = Events([("it", observer)]).failures
    require(
        not failures, "its hooks", measured="; ".join(failures), expected="those that there are"
    )
    hooks = [name for name in dir(observer) if name.startswith(HOOK)]
    require(bool(hooks), "its hooks", measured="none", expected="one at least")


@check
def it_is_told_of_a_run_without_a_directory(subject: ComponentUnderTest) -> None:
    """Told of a training that writes nothing, it raises nothing."""
    events = watched(subject.make(), NotedRun())
    require(
        not events.failures,
        "its hooks, in a run without a directory",
        measured="; ".join(events.failures),
        expected="nothing raised",
        why="an observer that raises is left out from then on",
    )


@check
def it_is_told_of_a_run_with_a_directory(subject: ComponentUnderTest) -> None:
    """Told of a training in a directory, twice as after a resume, it raises nothing."""
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            events = watched(subject.make(), NotedRun(Path(folder)))
            require(
                not events.failures,
                "its hooks, in a run with a directory",
                measured="; ".join(events.failures),
                expected="nothing raised",
            )
        kept = [p.name for p in Path(folder).iterdir() if p.name in ("spec.json", "checkpoints")]
        require(not kept, "what it wrote over", measured=kept, expected="files of its own")


CHECKS: tuple[Check, ...] = (
    its_hooks_are_hooks,
    it_is_told_of_a_run_without_a_directory,
    it_is_told_of_a_run_with_a_directory,
)
