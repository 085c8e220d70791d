"""Training of a small network beside the diffusion model: a classifier, an autoencoder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from diffkit.arguments import number, whole
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.noise import mix
from diffkit.errors import TrainingError

_WARM_UP = 0.05
_LARGEST_NORM = 1.0


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Args:
        steps: updates in all, at least 1.
        max_seconds: stop earlier, once so much time was spent.
        batch_size: samples in an update, at least 1.
        learning_rate: the largest one; it rises over a twentieth of the updates and then falls to
            0 with a cosine.
        weight_decay: of AdamW.
        seed: of the weights, the order of the data, and the draws of the objective.

    Raises:
        SpecError: a setting out of its range.
    """

    steps: int = 1000
    max_seconds: float | None = None
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        whole(self.steps, "steps", least=1)
        whole(self.batch_size, "batch_size", least=1)
        number(self.learning_rate, "learning_rate", "a positive number", lambda rate: rate > 0)
        number(self.weight_decay, "weight_decay", "at least 0", lambda decay: decay >= 0)
        if self.max_seconds is not None:
            number(self.max_seconds, "max_seconds", "a positive number", lambda time: time > 0)


class Objective(Protocol):
    """What is minimised."""

    def __call__(
        self, batch: Batch, draws: torch.Generator, done: float
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, a scalar, and the terms to show, from a batch on the host.

        Randomness comes from `draws`, a generator on the host. `done` is the share of the training
        that is over, in [0, 1].
        """


def fit(
    network: nn.Module,
    dataset: Dataset,
    objective: Objective,
    settings: FitSettings,
    *,
    progress: Callable[[float, Mapping[str, float]], None] = lambda done, terms: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train `network` in place with AdamW, the gradient's norm clipped to 1; then freeze it.

    `progress` is given the share that is done and the terms, after each update; `stop` ends the
    training before the next one. The result is a function of the seed and the weights, unless
    `max_seconds` ends it.

    Raises:
        TrainingError: the loss is not finite.
    """
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    draws = torch.Generator().manual_seed(mix(settings.seed, "draws"))
    began, done = time.monotonic(), 0.0
    for step in range(settings.steps):
        if done >= 1.0 or stop():
            break
        done = _share(step, time.monotonic() - began, settings)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(done)
        rows = torch.randint(len(dataset), (settings.batch_size,), generator=draws)
        loss, terms = objective(dataset.batch(rows.tolist()), draws, done)
        if not bool(loss.isfinite()):
            raise TrainingError(f"the loss of update {step} is not finite; lower learning_rate")
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_NORM)
        optimizer.step()
        progress(done, {name: float(value.detach()) for name, value in terms.items()})
    network.requires_grad_(False).eval()


def _share(step: int, seconds: float, settings: FitSettings) -> float:
    """How much is done, by updates or by time, whichever is more."""
    by_time = 0.0 if settings.max_seconds is None else seconds / settings.max_seconds
    return max(step / settings.steps, by_time)


def _rate(done: float) -> float:
    warm = min(1.0, (done + 1e-3) / _WARM_UP)
    return warm * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
