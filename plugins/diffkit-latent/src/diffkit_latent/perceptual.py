"""The perceptual term of the autoencoder's training: a distance between features."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffkit.core.dataset import Dataset
from diffkit.core.noise import mix
from diffkit.core.random_state import seeded
from diffkit.errors import DataError

_WIDTHS, _GROUPS = (16, 32, 64), 8
_BATCH, _RATE = 64, 2e-3
_SMALL = 1e-6


class Features(nn.Module):
    """A small classifier of the data's own labels, for the features of its layers.

    LPIPS (Zhang et al., 2018) takes those of networks that were trained on ImageNet; these need no
    download, and know no more than the labels tell.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(here, there, 3, stride=2, padding=1),
                nn.GroupNorm(_GROUPS, there),
                nn.ReLU(),
            )
            for here, there in zip((channels, *_WIDTHS), _WIDTHS, strict=False)
        )
        self.head = nn.Linear(_WIDTHS[-1], classes)

    def maps(self, x: Tensor) -> Iterator[Tensor]:
        """The output of every stage, `[b, c, h, w]`."""
        for stage in self.stages:
            x = stage(x)
            yield x

    def forward(self, x: Tensor) -> Tensor:
        """The logits of the classes."""
        *_, deepest = self.maps(x)
        logits: Tensor = self.head(deepest.mean(dim=(2, 3)))
        return logits

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """`sum_l E |f_l(x) - f_l(y)|^2`, over pixels, with features of unit length at each.

        Zhang et al. (2018), eq. 1, with all weights 1.
        """
        total = x.new_zeros(())
        for ours, theirs in zip(self.maps(x), self.maps(y), strict=True):
            apart = functional.normalize(ours, dim=1, eps=_SMALL)
            apart = apart - functional.normalize(theirs, dim=1, eps=_SMALL)
            total = total + apart.square().sum(dim=1).mean()
        return total


def trained_features(
    dataset: Dataset, steps: int, seed: int, device: torch.device | None = None
) -> Features:
    """Features trained to tell the data's labels apart, and then fixed.

    Raises DataError where the data have no condition `label`, one whole number a sample.
    """
    first = dataset.batch([0]).condition.get("label")
    if first is None or first.ndim != 1 or first.is_floating_point():
        raise DataError(
            f"the perceptual term is of features that tell labels apart, and "
            f"{type(dataset).__name__} gives no `label` of whole numbers; take perceptual_weight 0"
        )
    starts = range(0, len(dataset), _BATCH)
    parts = [range(s, min(s + _BATCH, len(dataset))) for s in starts]
    labels = torch.cat([dataset.batch(part).condition["label"] for part in parts])
    classes, targets = torch.unique(labels, return_inverse=True)
    with seeded(mix(seed, "features")):
        features = Features(dataset.shape[0], len(classes)).to(device)
    optimizer = torch.optim.AdamW(features.parameters(), lr=_RATE)
    generator = torch.Generator().manual_seed(mix(seed, "features", "order"))
    for _ in range(steps):
        rows = torch.randint(len(dataset), (_BATCH,), generator=generator)
        logits = features(dataset.batch(rows.tolist()).x_0.to(device))
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(logits, targets[rows].to(device)))
        optimizer.step()
    return features.requires_grad_(False).eval()
