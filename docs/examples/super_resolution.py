"""Super-resolution with a picture as the condition, dropped and guided. Saharia et al. (2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from diffkit.bundled.datasets.digits import Digits
from diffkit.bundled.models.unet import UNet
from diffkit.core import (
    Batch,
    ConditionInfo,
    Dataset,
    DataShape,
    EpsilonModel,
    Example,
    SampleMetric,
)
from diffkit.errors import DataError

LOW = ConditionInfo(shape=(1, 8, 8), picture=True)
HELD_OUT = 256


def pictures(count: int) -> torch.Tensor:
    """Of low resolution, to try components with."""
    small = torch.arange(16.0 * count).sin().reshape(count, 1, 4, 4)
    return functional.interpolate(small, scale_factor=2.0)


class LowResDigits(Dataset):
    """Digits, each with itself at half the size, brought back by repeating pixels."""

    def __init__(self, *, held_out: bool = False) -> None:
        self._digits = Digits()
        count = len(self._digits)
        self._rows = range(count - HELD_OUT, count) if held_out else range(count - HELD_OUT)

    @classmethod
    def facts(cls, config: Any) -> Mapping[str, Any]:
        return {"shape": LOW.shape, "range": (-1.0, 1.0), "conditions": {"low": LOW}}

    @property
    def shape(self):
        return LOW.shape

    @property
    def range(self):
        return (-1.0, 1.0)

    @property
    def conditions(self):
        return {"low": LOW}

    def __len__(self):
        return len(self._rows)

    def batch(self, indices):
        x_0 = self._digits.batch([self._rows[i] for i in indices]).x_0
        small = functional.avg_pool2d(x_0, 2)
        return Batch(x_0, {"low": functional.interpolate(small, scale_factor=2.0)})


class Upsampler(EpsilonModel):
    """A U-Net that sees the low-resolution picture as further channels; grey stands for none."""

    def __init__(self, *, shape: DataShape, width: int = 16) -> None:
        super().__init__()
        channels, *size = shape
        self._channels = channels
        self.unet = UNet(
            shape=(2 * channels, *size),
            width=width,
            multipliers=(1, 2),
            blocks=1,
            groups=8,
            dropout=0.0,
        )

    @classmethod
    def examples(cls):
        return [Example(conditions={"low": pictures})]

    @classmethod
    def facts(cls, config: Any) -> Mapping[str, Any]:
        return {"conditions": ("low",), "null": {"low": 0.0}}

    def forward(self, x, c_noise, condition):
        seen = torch.cat([x, condition["low"].to(x.dtype)], dim=1)
        return self.unet(seen, c_noise, {})[:, : self._channels]


class PSNR(SampleMetric):
    """The peak signal-to-noise ratio of samples, and of interpolations. Higher is better."""

    def __init__(self, *, count: int = 128) -> None:
        self._count = count

    @classmethod
    def examples(cls):
        return [Example(conditions={"low": pictures})]

    def samples_needed(self, dataset):
        return min(self._count, len(dataset))

    def measure(self, samples, dataset, seed, of):
        if of is None or samples.shape != of.x_0.shape or not bool(samples.isfinite().all()):
            raise DataError("psnr: samples must be finite, and made of the low-resolution data")
        bicubic = functional.interpolate(
            functional.avg_pool2d(of.condition["low"], 2), scale_factor=2.0, mode="bicubic"
        )
        named = {"psnr": samples, "nearest": of.condition["low"], "bicubic": bicubic}
        return {name: float(_psnr(x.clamp(-1, 1), of.x_0)) for name, x in named.items()}


def _psnr(x, x_0):
    """Of values from -1 to 1; the mean over pictures."""
    return (10 * torch.log10(4.0 / (x - x_0).square().flatten(1).mean(1).clamp(min=1e-12))).mean()
