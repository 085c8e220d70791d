"""A run as its observers see it, and what they may do in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffkit.arguments import instance, number
from diffkit.assembly.modules import refuse_divided, twin
from diffkit.errors import SpecError


@dataclass(frozen=True)
class Looking:
    """What a pipeline does for the observers of its training, in this process alone.

    Each is called with a function first that is called after every step of a trajectory, and may
    raise: training has to go on.
    """

    sample: Callable[..., Tensor]
    """Samples of the weights of now, as `Pipeline.sample` draws them."""
    evaluate: Callable[..., dict[str, float]]
    """The values of a metric, as `Pipeline.evaluate` measures them."""


@dataclass
class Abilities:
    """What observers can do in a training; the trainer says how."""

    looking: Looking
    system: nn.Module
    average: nn.Module | None
    go_on: Callable[[], None]
    log: Callable[[str, float | Tensor], None]
    stop: Callable[[str], None]


@dataclass(frozen=True)
class ObservedRun:
    """What observers are told of a run, which trains or samples: the `RunInfo` of their hooks."""

    directory: Path | None
    spec: Mapping[str, Any]
    _able: list[Abilities] = field(default_factory=list)
    """Empty where nothing is trained."""

    def enable(self, abilities: Abilities) -> None:
        """From now on observers can do these."""
        self._able[:] = [abilities]

    @property
    def system(self) -> nn.Module:
        """A copy of the module in training."""
        return _copied(self._abilities("system").system, "run.system")

    @property
    def average(self) -> nn.Module | None:
        """A copy of the first average."""
        average = self._abilities("average").average
        return None if average is None else _copied(average, "run.average")

    def sample(self, num: int, *, seed: int = 0, **options: Any) -> Tensor:
        """Samples of the weights of now."""
        able = self._abilities("sample")
        able.go_on()
        return able.looking.sample(able.go_on, num, seed=seed, **options)

    def evaluate(self, metric: Any = None, *, seed: int = 0, **options: Any) -> dict[str, float]:
        """The values of a metric."""
        able = self._abilities("evaluate")
        able.go_on()
        return able.looking.evaluate(able.go_on, metric, seed=seed, **options)

    def log(self, name: str, value: float | Tensor) -> None:
        """Tell every observer of a number or a picture. Raises SpecError for what is neither."""
        instance(name, "name", str, "what is logged")
        self._abilities("log").log(name, _loggable(value))

    def stop(self, reason: str) -> None:
        """End training after this update."""
        self._abilities("stop").stop(instance(reason, "reason", str, "why training ends"))

    def _abilities(self, what: str) -> Abilities:
        if not self._able:
            raise SpecError([f"run.{what}: nothing is trained here; it is for training's events"])
        return self._able[0]


def _copied(module: nn.Module, name: str) -> nn.Module:
    """What an observer does to it is no business of training."""
    refuse_divided(module, name, "look at samples, or at a checkpoint")
    return twin(module)


def _loggable(value: Any) -> float | Tensor:
    if isinstance(value, Tensor) and value.ndim == 3 and value.shape[0] in (1, 3):
        return value.detach().to("cpu", torch.float32)
    allowed = "a number, or a picture: a tensor [c, h, w] with 1 channel or 3, in [0, 1]"
    if isinstance(value, Tensor) and value.ndim:
        raise SpecError([f"value is {allowed}, not a tensor of the shape {list(value.shape)}"])
    return float(number(value, "value", allowed, lambda _: True))
