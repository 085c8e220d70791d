"""What observers of a training may ask of its pipeline, in the process that tells them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from diffkit.core.metric import Measured


@dataclass(frozen=True)
class Interrupted:
    """Shows no progress, and goes on as long as that raises nothing."""

    go_on: Callable[[], None]

    def update(self, done: float, text: str) -> None:
        """After each step of a trajectory."""
        self.go_on()


@dataclass(frozen=True)
class Looks:
    """Samples and measures for observers.

    Args:
        draw: in this process, and calls its first argument after each step.
        measure: by samples that its first argument draws.
    """

    draw: Callable[..., Tensor]
    measure: Callable[..., Measured]

    def sample(
        self, go_on: Callable[[], None], num: int, seed: int, options: Mapping[str, Any]
    ) -> Tensor:
        """Samples of the weights of now."""
        return self.draw(go_on, num, seed=seed, **options)

    def evaluate(self, go_on: Callable[[], None], metric: Any, seed: int) -> dict[str, float]:
        """The values of a metric."""
        draw = partial(self.draw, go_on)
        found = self.measure(draw, None, None, None, {"metric": metric}, seed, {})
        return dict(found.values)
