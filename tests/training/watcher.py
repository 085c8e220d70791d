"""An observer that samples a grid now and then, logs it, and ends training early."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt

from diffkit.core import Observer


class Grid(Observer):
    """Every `every` updates: four samples side by side, and an end once the loss is small.

    Args:
        every: a multiple of `training.log_every`.
        below: the loss that is enough.
    """

    def __init__(self, *, every: Annotated[int, Gt(0)] = 4, below: float = 0.0) -> None:
        self._every, self._below = every, below

    def diffkit_step(self, run, step, metrics) -> None:
        if step % self._every:
            return
        samples = run.sample(4, seed=1, steps=2)
        run.log("samples", torch.cat(list(samples), dim=-1).add(1).div(2).clamp(0, 1))
        run.log("spread", samples.std())
        if metrics["loss"] < self._below:
            run.stop("the loss is small enough")
