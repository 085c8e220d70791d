"""The events of a run, told to every observer; one that raises is not told any more.

Observers get copies, so that what they change is theirs alone.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffkit.plugins.hookspecs import RunInfo
from diffkit.plugins.isolation import call_each, cause_of, new_manager, register

if TYPE_CHECKING:
    from torch import Tensor, nn

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
        self._tell("diffkit_run_start", lambda: {"run": _told(run)})

    def step(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics were taken after update number `step`."""
        self._tell(
            "diffkit_step", lambda: {"run": _told(run), "step": step, "metrics": dict(metrics)}
        )

    def checkpoint(self, run: RunInfo, step: int, path: Path) -> None:
        """A checkpoint is complete and synced at `path`."""
        self._tell("diffkit_checkpoint", lambda: {"run": _told(run), "step": step, "path": path})

    def sample(self, run: RunInfo, samples: Tensor) -> None:
        """A batch of samples, `[b, *data]`, is finished."""
        self._tell(
            "diffkit_sample", lambda: {"run": _told(run), "samples": samples.detach().clone()}
        )

    def log(self, run: RunInfo, step: int, name: str, value: float | Tensor) -> None:
        """An observer logged a number or a picture."""

        def arguments() -> dict[str, Any]:
            own = value if isinstance(value, float) else value.detach().clone()
            return {"run": _told(run), "step": step, "name": name, "value": own}

        self._tell("diffkit_log", arguments)

    def run_end(self, run: RunInfo, step: int) -> None:
        """Training has ended after `step` updates in all."""
        self._tell("diffkit_run_end", lambda: {"run": _told(run), "step": step})

    def _tell(self, hook: str, arguments: Callable[[], dict[str, Any]]) -> None:
        """Call a hook; each observer gets what is its own to change, made when it is called."""
        if not getattr(self._manager.hook, hook).get_hookimpls():
            return

        def report(plugin: str, error: BaseException) -> None:
            self._failures.append(f"{plugin}: {hook} raised {cause_of(error)}")

        call_each(self._manager, hook, lambda _: arguments(), report)


@dataclass(frozen=True)
class _Told:
    """What one observer is told of a run, and may do."""

    directory: Path | None
    spec: Mapping[str, Any]
    _run: RunInfo

    @property
    def system(self) -> nn.Module:
        return self._run.system

    @property
    def average(self) -> nn.Module | None:
        return self._run.average

    def sample(self, num: int, *, seed: int = 0, **options: Any) -> Tensor:
        return self._run.sample(num, seed=seed, **options)

    def evaluate(self, metric: Any = None, *, seed: int = 0, **options: Any) -> dict[str, float]:
        return self._run.evaluate(metric, seed=seed, **options)

    def log(self, name: str, value: float | Tensor) -> None:
        self._run.log(name, value)

    def stop(self, reason: str) -> None:
        self._run.stop(reason)


def _told(run: RunInfo) -> RunInfo:
    return _Told(run.directory, copy.deepcopy(dict(run.spec)), run)
