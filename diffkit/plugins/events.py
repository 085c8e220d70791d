"""The events of a run, told to every observer; one that raises is not told any more."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffkit.plugins.hookspecs import RunInfo
from diffkit.plugins.isolation import call_each, cause_of, new_manager, register

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger("diffkit")


class Events:
    """Who is told of one run's events. An observer that raises is left out from then on.

    Args:
        modules: hook modules with their names, as `Host.load_hooks` returns them.
        observers: objects with `@diffkit.hookimpl` methods, called `observer-0` and so on.
    """

    def __init__(
        self, modules: Iterable[tuple[str, object]], observers: Iterable[object] = ()
    ) -> None:
        self._manager = new_manager()
        self._failures: list[str] = []
        named = [(f"observer-{position}", observer) for position, observer in enumerate(observers)]
        for name, plugin in [*modules, *named]:
            problem = register(self._manager, plugin, name)
            if problem is not None:
                _log.warning("plugin '%s' is left out of this run: %s", name, problem)
                self._failures.append(f"{name}: {problem}")

    @property
    def failures(self) -> tuple[str, ...]:
        """Who is not told any more, and why; in the order in which it happened."""
        return tuple(self._failures)

    def run_start(self, run: RunInfo) -> None:
        """Training is about to begin, or to go on."""
        if self._heard("diffkit_run_start"):
            self._tell("diffkit_run_start", {"run": run})

    def step(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics were taken after update number `step`."""
        if self._heard("diffkit_step"):
            self._tell("diffkit_step", {"run": run, "step": step, "metrics": metrics})

    def checkpoint(self, run: RunInfo, step: int, path: Path) -> None:
        """A checkpoint is complete and synced at `path`."""
        if self._heard("diffkit_checkpoint"):
            self._tell("diffkit_checkpoint", {"run": run, "step": step, "path": path})

    def sample(self, run: RunInfo, samples: Tensor) -> None:
        """A batch of samples, `[b, *data]`, is finished."""
        if self._heard("diffkit_sample"):
            self._tell("diffkit_sample", {"run": run, "samples": samples})

    def run_end(self, run: RunInfo, step: int) -> None:
        """Training has ended after `step` updates in all."""
        if self._heard("diffkit_run_end"):
            self._tell("diffkit_run_end", {"run": run, "step": step})

    def _heard(self, hook: str) -> bool:
        return bool(getattr(self._manager.hook, hook).get_hookimpls())

    def _tell(self, hook: str, arguments: dict[str, Any]) -> None:
        def report(plugin: str, error: BaseException) -> None:
            self._failures.append(f"{plugin}: {hook} raised {cause_of(error)}")

        call_each(self._manager, hook, lambda _: arguments, report)
