"""Muon with AdamW for the rest, as somebody would write it as a plugin. Jordan et al. (2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Gt
from torch import nn

from diffkit.core import Optimizer


class Muon(Optimizer):
    """Matrices move along `U V^T` of their momentum, by five steps of Newton and Schulz.

    Args:
        rest: the multiple of the learning rate of vectors, which AdamW moves.
    """

    def __init__(self, *, rest: Annotated[float, Gt(0)] = 0.1) -> None:
        self._rest = rest

    def make(self, named_parameters: Sequence[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        matrices = [weight for _, weight in named_parameters if weight.ndim == 2]
        others = [weight for _, weight in named_parameters if weight.ndim != 2]
        return MuonUpdates(
            [
                {"params": matrices, "lr": 1.0, "muon": True},
                {"params": others, "lr": self._rest, "muon": False},
            ]
        )


class MuonUpdates(torch.optim.Optimizer):
    """What makes the updates."""

    def __init__(self, groups) -> None:
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    one = self._muon if group["muon"] else self._adamw
                    one(weight, self.state[weight], group["lr"])

    def _muon(self, weight, state, rate) -> None:
        momentum = state.setdefault("momentum", torch.zeros_like(weight))
        momentum.mul_(0.95).add_(weight.grad)
        x = weight.grad.add(momentum, alpha=0.95)
        x = x / (x.norm() + 1e-7)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        weight.add_(x, alpha=-rate * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5)

    def _adamw(self, weight, state, rate) -> None:
        state["step"] = state.get("step", 0) + 1
        for key in ("mean", "square"):
            state.setdefault(key, torch.zeros_like(weight))
        state["mean"].lerp_(weight.grad, 0.1)
        state["square"].lerp_(weight.grad.square(), 0.05)
        mean = state["mean"] / (1 - 0.9 ** state["step"])
        square = state["square"] / (1 - 0.95 ** state["step"])
        weight.sub_(rate * mean / (square.sqrt() + 1e-8))
