"""A classifier of noisy images: its network, its training, and the folder that holds it."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffkit.core.dataset import Dataset
from diffkit.core.noise import mix
from diffkit.core.process import GaussianProcess
from diffkit.core.random_state import seeded
from diffkit.core.regular import MOST_JSON, read_regular
from diffkit.core.weights import fit_tensors, load_state, read_tensors, state_of, tensor_bytes
from diffkit.errors import CheckpointError, ComponentError, DataError, TrainingError
from diffkit.functional.coefficients import broadcast_right
from diffkit.helpers.files import write_file

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

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


@dataclass(frozen=True)
class Training:
    """How to train.

    Args:
        steps: updates in all.
        max_seconds: stop earlier, once so much time was spent.
        batch_size: images in an update.
        learning_rate: the largest one; it rises over a twentieth of the updates and then falls to
            0 with a cosine.
        seed: of the weights, the order of the data, the times and the noise.
    """

    steps: int = 1000
    max_seconds: float | None = None
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0


def trained(
    dataset: Dataset,
    process: GaussianProcess,
    sizes: Architecture,
    training: Training,
    told: Callable[[float, Mapping[str, float]], None] = lambda done, terms: None,
    device: torch.device | None = None,
    *,
    made: Callable[[Network], None] = lambda network: None,
    stop: Callable[[], bool] = lambda: False,
) -> Network:
    """A network trained by cross-entropy on noisy data, at times that are drawn evenly.

    Dhariwal & Nichol (2021), section 4. `told` is given the share that is done, and the loss;
    `made` the network before it is trained; `stop` ends training early.

    Raises:
        DataError: the dataset gives no labels, or such as are no classes.
        TrainingError: the loss is not finite.
    """
    with seeded(mix(training.seed, "weights")):
        network = Network(sizes).to(device)
    made(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate)
    generator = torch.Generator().manual_seed(mix(training.seed, "draws"))
    began, done = time.monotonic(), 0.0
    for step in range(training.steps):
        if done >= 1.0 or stop():
            break
        done = _share(step, time.monotonic() - began, training)
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * _rate(done)
        rows = torch.randint(len(dataset), (training.batch_size,), generator=generator)
        batch = dataset.batch(rows.tolist())
        label = _labels(batch.condition, sizes.classes).to(device)
        epsilon = torch.randn(batch.x_0.shape, generator=generator).to(device)
        drawn = torch.rand(len(rows), generator=generator, dtype=torch.float64)
        t = process.schedule.snap(1.0 - drawn)  # In (0, 1], so that each k / T is as likely.
        log_snr = process.log_snr(t)
        x = unit(process, process.diffuse(batch.x_0.to(device), t, epsilon), log_snr)
        loss = functional.cross_entropy(network(x, log_snr.to(x.device)), label)
        if not bool(loss.isfinite()):
            raise TrainingError(f"the loss of update {step} is not finite; lower learning_rate")
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        told(done, {"cross-entropy": float(loss.detach())})
    return network.requires_grad_(False).eval()


def classes_of(dataset: Dataset) -> int:
    """One more than the largest label of all data. Raises DataError where there are none."""
    largest = 0
    for start in range(0, len(dataset), _AT_ONCE):
        rows = range(start, min(start + _AT_ONCE, len(dataset)))
        largest = max(largest, int(_labels(dataset.batch(rows).condition, None).max()))
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


def _labels(condition: Mapping[str, Tensor], classes: int | None) -> Tensor:
    label = condition.get(LABEL)
    if label is None or label.is_floating_point() or label.ndim != 1:
        raise DataError(
            f"a classifier is trained on the condition {LABEL!r}, one whole number a sample, and "
            "the dataset gives none"
        )
    if int(label.min()) < 0 or (classes is not None and int(label.max()) >= classes):
        raise DataError(f"the dataset has labels outside the {classes} classes from 0")
    return label


def _share(step: int, seconds: float, training: Training) -> float:
    """How much is done, by updates or by time, whichever is more."""
    by_time = 0.0 if training.max_seconds is None else seconds / training.max_seconds
    return max(step / training.steps, by_time)


def _rate(done: float) -> float:
    warm = min(1.0, (done + 1e-3) / 0.05)
    return warm * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
