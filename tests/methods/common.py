"""Small data, and numbers that say how near samples are to them."""

from __future__ import annotations

from pathlib import Path

import torch

import diffkit
from diffkit.core import Batch, Dataset

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def host_of(*names):
    """A host that also has the components of these example files, as `local.<name>`."""
    return diffkit.Host(plugin_files=[EXAMPLES / f"{name}.py" for name in names])


class Ring(Dataset):
    """Points from eight Gaussians on the unit circle, each with its number as `label`."""

    def __init__(self, *, count=20_000, deviation=0.1, labelled=False):
        generator = torch.Generator().manual_seed(0)
        self.label = torch.randint(8, (count,), generator=generator)
        angle = self.label * torch.pi / 4
        centre = torch.stack([angle.cos(), angle.sin()], dim=1)
        self.x = centre + deviation * torch.randn(count, 2, generator=generator)
        self._labelled = labelled

    @property
    def shape(self):
        return (2,)

    def __len__(self):
        return len(self.x)

    def batch(self, indices):
        rows = torch.as_tensor(list(indices))
        return Batch(self.x[rows], {"label": self.label[rows]} if self._labelled else {})


def report(name, figure):
    """Show, with `-s`, what a test of a method measured, on a line of its own."""
    print(f"\n{name}: {figure}")


def sliced(one, other):
    """The sliced 2-Wasserstein distance of as many points, over 64 directions."""
    directions = torch.randn(one.shape[1], 64, generator=torch.Generator().manual_seed(0))
    directions = directions / directions.norm(dim=0)
    sorted_ = [(points @ directions).sort(dim=0).values for points in (one, other)]
    return float((sorted_[0] - sorted_[1]).square().mean().sqrt())


QUICK = {
    "batch_size": 256,
    "learning_rate": 2e-3,
    "warmup_steps": 50,
    "ema_decay": 0.99,
    "log_every": 1000,
    "checkpoint_every": 10_000,
    "progress": False,
}
