"""A small pipeline on points, and what trains it."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
    "steps": 3,
}


class Points(Dataset):
    """Sixteen points of a normal distribution, the same ones always."""

    def __init__(self) -> None:
        self._points = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))

    @property
    def shape(self):
        return (2,)

    def __len__(self):
        return 16

    def batch(self, indices):
        return Batch(self._points[list(indices)])


@pytest.fixture
def points():
    return Points()


@pytest.fixture
def pipeline():
    return diffkit.build(SPEC, device="cpu")
