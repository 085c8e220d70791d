"""A bridge between pictures and their blurred selves. Liu et al. (2023), I2SB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from diffkit.bundled.datasets.digits import Digits
from diffkit.core import (
    Batch,
    ConditionInfo,
    Dataset,
    Example,
    ForwardProcess,
    Loss,
    LossRecord,
    NoiseSchedule,
    Prediction,
)
from diffkit.functional.coefficients import broadcast_right

SOURCE = ConditionInfo(shape=(1, 8, 8), picture=True)
TRIED = Example(conditions={"source": lambda count: torch.ones(count, *SOURCE.shape).cumsum(0)})
"""What the conformance kit tries these components with: another grey for each sample."""


class BlurredDigits(Dataset):
    """Digits, and each blurred as the condition `source`."""

    def __init__(self) -> None:
        self._digits = Digits()

    @classmethod
    def facts(cls, config):
        return {**Digits.facts(config), "conditions": {"source": SOURCE}}

    @property
    def shape(self):
        return SOURCE.shape

    @property
    def range(self):
        return (-1.0, 1.0)

    @property
    def conditions(self):
        return {"source": SOURCE}

    def __len__(self):
        return len(self._digits)

    def batch(self, indices):
        x_0 = self._digits.batch(indices).x_0
        line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        kernel = (line[:, None] * line).reshape(1, 1, 5, 5)
        padded = functional.pad(x_0, (2, 2, 2, 2), value=-1.0)
        return Batch(x_0, {"source": functional.conv2d(padded, kernel)})


@dataclass(frozen=True, eq=False)
class Estimate(Prediction):
    """The clean picture, as the network puts it out."""

    output: Tensor

    @property
    def x_0(self):
        return self.output


class Ends(NamedTuple):
    """What a point of the bridge is drawn with: its other end, and noise."""

    source: Tensor
    epsilon: Tensor


class Bridge(ForwardProcess):
    """A Brownian bridge from the data at t = 0 to `source` at t = 1. I2SB, eq. 11 and 4.

    The variance that has been added by time t is `scale^2 sigmoid(-log_snr(t))`, of its schedule.
    """

    def __init__(self, *, schedule: NoiseSchedule, scale: float = 0.3) -> None:
        self._schedule, self._scale = schedule, scale

    @classmethod
    def examples(cls):
        return [TRIED]

    @property
    def schedule(self):
        return self._schedule

    @property
    def takes(self):
        return ("source",)

    def _added(self, t):
        return self._scale**2 * torch.sigmoid(-self._schedule.log_snr(t))

    def draw(self, x_0, noise, condition=None):
        return Ends(condition["source"], noise.normal(x_0.shape))

    def diffuse(self, x_0, t, drawn):
        before, whole = self._added(t), self._added(1.0)
        share = broadcast_right((before / whole).float(), x_0)
        spread = broadcast_right((before * (whole - before) / whole).sqrt().float(), x_0)
        return (1 - share) * x_0 + share * drawn.source + spread * drawn.epsilon

    def prior(self, shape, noise, condition=None):
        return condition["source"]

    def interpret(self, output, x_t, t):
        return Estimate(output)

    def reverse(self, prediction, x_t, t, s, noise):
        at_s, between = float(self._added(s)), float(self._added(t) - self._added(s))
        mean = (between * prediction.x_0 + at_s * x_t) / (between + at_s)
        if s == 0.0:
            return mean
        return mean + (at_s * between / (between + at_s)) ** 0.5 * noise.normal(x_t.shape)


class ToTheData(Loss):
    """The squared error of the predicted data."""

    process_class = Bridge

    @classmethod
    def examples(cls):
        return [TRIED]

    def __call__(self, batch, context):
        t, _ = context.draw_times(len(batch))
        drawn = context.process.draw(batch.x_0, context.noise, batch.given)
        prediction = context.denoiser(context.process.diffuse(batch.x_0, t, drawn), t)
        return LossRecord((prediction.x_0 - batch.x_0).square().flatten(1).mean(1), t)
