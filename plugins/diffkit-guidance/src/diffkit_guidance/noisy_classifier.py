"""A classifier of noisy images: its network, its objective, and the folder that holds it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.noise import mix
from diffkit.core.process import GaussianProcess
from diffkit.core.random_state import seeded
from diffkit.core.regular import MOST_JSON, read_regular
from diffkit.core.weights import fit_tensors, load_state, read_tensors, state_of, tensor_bytes
from diffkit.errors import CheckpointError, ComponentError, DataError
from diffkit.functional.coefficients import broadcast_right
from diffkit.helpers.files import write_file

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_FORMAT = "diffkit-guidance.classifier.1"
_FREQUENCIES = 5
_FARTHEST = 20.0
"""The log-SNR beyond which there is nothing to tell apart."""
_AT_ONCE = 256
LABEL = "label"


@dataclass(frozen=True)
class Architecture:
    """The sizes of the network.

    Args:
        channels: of the images, or of their latents.
        classes: how many there are.
        width: channels at full resolution.
        multipliers: the channels of each level as multiples of `width`; each level but the first
            has half the height and width of the one before, rounded up.
        groups: groups of each normalisation; divides the channels of every level.
    """

    channels: int
    classes: int
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 4)
    groups: int = 8

    def __post_init__(self) -> None:
        given = [self.channels, self.classes, self.width, self.groups, *self.multipliers]
        if not self.multipliers or any(type(n) is not int or n < 1 for n in given):
            raise ComponentError("classifier: every size is a whole number, at least 1")
        if wrong := [m * self.width for m in self.multipliers if m * self.width % self.groups]:
            raise ComponentError(
                f"classifier: groups = {self.groups} does not divide {wrong[0]} channels; change "
                "groups, width or multipliers"
            )


class Network(nn.Module):
    """Residual blocks down to one vector an image, and the logits of its classes.

    As the classifier of Dhariwal & Nichol (2021), section 4.3, which is the downward half of their
    U-Net; smaller, with the mean over pixels in place of attention.
    """

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        widths = [sizes.width * m for m in sizes.multipliers]
        noise = 4 * sizes.width
        self.noise = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, noise), nn.SiLU(), nn.Linear(noise, noise), nn.SiLU()
        )
        self.first = nn.Conv2d(sizes.channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            _Block(here, there, noise, sizes.groups, halve=level > 0)
            for level, (here, there) in enumerate(pairwise([widths[0], *widths]))
        )
        self.last = nn.Sequential(nn.GroupNorm(sizes.groups, widths[-1]), nn.SiLU())
        self.logits = nn.Linear(widths[-1], sizes.classes)

    def forward(
        self, x: Float[Tensor, "b c h w"], log_snr: Float[Tensor, " b"]
    ) -> Float[Tensor, "b classes"]:
        """The logits, for images of variance about 1 and their log-SNR."""
        octaves = 2.0 ** torch.arange(_FREQUENCIES, device=x.device, dtype=x.dtype)
        angles = log_snr.to(x.dtype)[:, None].clamp(-_FARTHEST, _FARTHEST) * (
            math.pi / (2.0 * _FARTHEST) * octaves
        )
        noise = self.noise(torch.cat([angles.sin(), angles.cos()], dim=1))
        hidden = self.first(x)
        for block in self.blocks:
            hidden = block(hidden, noise)
        found: Tensor = self.logits(self.last(hidden).mean(dim=(2, 3)))
        return found


class _Block(nn.Module):
    def __init__(self, here: int, there: int, noise: int, groups: int, *, halve: bool) -> None:
        super().__init__()
        stride = 2 if halve else 1
        self.norm_1 = nn.GroupNorm(groups, here)
        self.conv_1 = nn.Conv2d(here, there, 3, padding=1, stride=stride)
        self.shift = nn.Linear(noise, there)
        self.norm_2 = nn.GroupNorm(groups, there)
        self.conv_2 = nn.Conv2d(there, there, 3, padding=1)
        self.skip = nn.Conv2d(here, there, 1, stride=stride)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        hidden = self.conv_1(functional.silu(self.norm_1(x)))
        hidden = hidden + self.shift(noise)[..., None, None]
        hidden = self.conv_2(functional.silu(self.norm_2(hidden)))
        total: Tensor = self.skip(x) + hidden
        return total


def unit(
    process: GaussianProcess, x_t: Tensor, log_snr: Float64[Tensor, "..."]
) -> Float[Tensor, "b *data"]:
    """`x_t / sqrt(alpha^2 + sigma^2)`: the same for every process with this log-SNR."""
    scales = process.scales(log_snr)
    total = (scales.alpha.square() + scales.sigma.square()).rsqrt()
    return (broadcast_right(total, x_t) * x_t).to(x_t.dtype)


def initialised(sizes: Architecture, seed: int, device: torch.device | None = None) -> Network:
    """A network of fresh weights, which are a function of the seed."""
    with seeded(mix(seed, "weights")):
        return Network(sizes).to(device)


class CrossEntropy:
    """The cross-entropy of labels, on noisy data at times that are drawn evenly.

    Dhariwal & Nichol (2021), section 4. Raises DataError where the data have no labels, or such as
    are no classes.
    """

    def __init__(self, network: Network, process: GaussianProcess, classes: int) -> None:
        self._network, self._process, self._classes = network, process, classes

    def __call__(
        self, batch: Batch, draws: torch.Generator, done: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, which is the only term."""
        device = next(self._network.parameters()).device
        label = labels(batch.condition, self._classes).to(device)
        epsilon = torch.randn(batch.x_0.shape, generator=draws).to(device)
        drawn = torch.rand(len(batch), generator=draws, dtype=torch.float64)
        # In (0, 1], so that each k / T is as likely.
        t = self._process.schedule.snap(1.0 - drawn)
        log_snr = self._process.log_snr(t)
        x_t = self._process.diffuse(batch.x_0.to(device), t, epsilon)
        logits = self._network(unit(self._process, x_t, log_snr), log_snr.to(device))
        loss = functional.cross_entropy(logits, label)
        return loss, {"cross-entropy": loss}


def classes_of(dataset: Dataset) -> int:
    """One more than the largest label of all data. Raises DataError where there are none."""
    largest = 0
    for start in range(0, len(dataset), _AT_ONCE):
        rows = range(start, min(start + _AT_ONCE, len(dataset)))
        largest = max(largest, int(labels(dataset.batch(rows).condition, None).max()))
    return largest + 1


def write_classifier(folder: Path, network: Network, sizes: Architecture) -> None:
    """Write the folder that the guidance `classifier` reads. Raises CheckpointError."""
    text = json.dumps({"format": _FORMAT, **dataclasses.asdict(sizes)}, indent=2) + "\n"
    write_file(folder / WEIGHTS, tensor_bytes(state_of(network)))
    write_file(folder / CONFIG, text.encode())


def read_classifier(folder: Path) -> tuple[Network, Architecture]:
    """What `write_classifier` wrote. Raises ComponentError."""
    path = folder / CONFIG
    try:
        data = json.loads(read_regular(path, MOST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise ComponentError(
            f"{path} cannot be read: {error}; give the folder that `diffkit train-classifier` wrote"
        ) from error
    if not isinstance(data, dict) or data.pop("format", None) != _FORMAT:
        raise ComponentError(
            f"{path} is not of `diffkit train-classifier` (its format is to be {_FORMAT!r})"
        )
    try:
        sizes = Architecture(**{**data, "multipliers": tuple(data["multipliers"])})
    except (TypeError, KeyError) as error:
        raise ComponentError(f"{path} does not describe the network: {error}") from error
    network = Network(sizes)
    try:
        weights = folder / WEIGHTS
        load_state(network, fit_tensors(read_tensors(weights), state_of(network), weights))
    except CheckpointError as error:
        raise ComponentError(
            f"{folder / WEIGHTS} does not hold the weights that {CONFIG} beside it is of: {error}; "
            "train the classifier again"
        ) from error
    return network.requires_grad_(False).eval(), sizes


def labels(condition: Mapping[str, Tensor], classes: int | None) -> Int64[Tensor, " b"]:
    """The condition `label`, held against the number of classes. Raises DataError."""
    label = condition.get(LABEL)
    if label is None or label.is_floating_point() or label.ndim != 1:
        raise DataError(
            f"a classifier is trained on the condition {LABEL!r}, one whole number a sample, and "
            "the dataset gives none"
        )
    if int(label.min()) < 0 or (classes is not None and int(label.max()) >= classes):
        raise DataError(f"the dataset has labels outside the {classes} classes from 0")
    return label
