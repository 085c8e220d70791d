"""Every hook that a plugin can implement, with `@diffkit.hookimpl`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from torch import Tensor, nn

    Logged = float | Tensor
    """A number, or a picture `[c, h, w]` in [0, 1]."""

PROJECT = "diffkit"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Register(Protocol):
    """Announces one component: its kind, its name, and its class or `module:attribute`."""

    def __call__(self, kind: str, name: str, target: str | type) -> None: ...


class RunInfo(Protocol):
    """What observers are told of a run; read-only."""

    @property
    def directory(self) -> Path | None:
        """Where the run is written, if it is."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The pipeline's spec in JSON form, every default written out."""

    @property
    def system(self) -> nn.Module:
        """A copy of the module in training, made when it is asked for."""

    @property
    def average(self) -> nn.Module | None:
        """A copy of the first average, where there is one."""

    def sample(self, num: int, *, seed: int = 0, **options: Any) -> Tensor:
        """Samples `[num, *data]` of the weights of now, as `Pipeline.sample` draws them: with the
        average, in evaluation mode; the training's random numbers are untouched. Where training is
        to end, by a signal or as its time is up, it raises TrainingError, and training ends.
        """

    def evaluate(self, metric: Any = None, *, seed: int = 0, **options: Any) -> dict[str, float]:
        """The values of a metric, the spec's by default, likewise; the options, such as `num`,
        `dataset` and `steps`, are those of `Pipeline.evaluate`.
        """

    def log(self, name: str, value: Logged) -> None:
        """Tell every observer of a number, or of a picture `[c, h, w]` in [0, 1]."""

    def stop(self, reason: str) -> None:
        """End training after this update, with a checkpoint; no error."""


@hookspec
def diffkit_register(register: Register) -> None:
    """Announce components. Distributions do it by their metadata; code can make more."""


@hookspec
def diffkit_run_start(run: RunInfo) -> None:
    """Training is about to begin, or to go on."""


@hookspec
def diffkit_step(run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
    """Metrics were taken after update number `step`. Called every `log_every` updates."""


@hookspec
def diffkit_checkpoint(run: RunInfo, step: int, path: Path) -> None:
    """A checkpoint is complete and synced at `path`."""


@hookspec
def diffkit_sample(run: RunInfo, samples: Tensor) -> None:
    """A batch of samples, `[b, *data]`, is finished."""


@hookspec
def diffkit_log(run: RunInfo, step: int, name: str, value: Logged) -> None:
    """An observer logged a number, or a picture `[c, h, w]` in [0, 1], after `step` updates."""


@hookspec
def diffkit_run_end(run: RunInfo, step: int) -> None:
    """Training has ended after `step` updates in all."""
