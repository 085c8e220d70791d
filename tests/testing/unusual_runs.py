"""Right components that hold a trained run."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

import diffkit
from diffkit.core.example import Example
from diffkit.core.model import EpsilonModel
from diffkit.core.run import Run

BASE = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [1, 4, 6]},
}


class Controlled(EpsilonModel):
    """A frozen base, and a branch that trains and is shown a picture."""

    def __init__(self, *, base: Run, width: int = 8) -> None:
        super().__init__()
        self._base = base
        self.shown = nn.Conv2d(2, width, 3, padding=1)
        self.level = nn.Linear(16, width)
        self.said = nn.Conv2d(width, 1, 3, padding=1)

    @classmethod
    def examples(cls):
        edges = {"edges": lambda count: torch.arange(24.0 * count).sin().reshape(count, 1, 4, 6)}
        return [
            Example(code={"base": Run.of(diffkit.build(BASE))}, shape=(1, 4, 6), conditions=edges)
        ]

    @classmethod
    def facts(cls, config):
        return {"conditions": ("edges",)}

    def forward(self, x, c_noise, condition):
        angles = c_noise.to(x.dtype)[:, None] / 10 ** (torch.arange(8) / 2).to(x.dtype)
        level = self.level(torch.cat([angles.sin(), angles.cos()], dim=1))
        shown = self.shown(torch.cat([x, condition["edges"].to(x.dtype)], dim=1))
        branch = self.said(functional.silu(shown + level[:, :, None, None]))
        return self._base.network(x, c_noise, {}) + branch
