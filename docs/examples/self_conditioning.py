"""Self-conditioning: the network is told what it predicted before.

Chen, Zhang & Hinton (2023), *Analog bits*, section 3.2 and Algorithms 1 and 2.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import nn

from diffkit.core import (
    Batch,
    Conditioning,
    DataShape,
    EpsilonModel,
    Example,
    GaussianProcess,
    Guidance,
    GuidedDenoiser,
    Loss,
    LossContext,
    LossRecord,
    MakeDenoiser,
)

X_0 = "x_0"


class SelfConditionedLoss(Loss):
    """The squared error of x_0; every second sample is told an estimate of it, made without.

    Args:
        share: how often.
    """

    process_class: ClassVar[type[GaussianProcess]] = GaussianProcess
    gives: ClassVar[tuple[str, ...]] = (X_0,)

    def __init__(self, *, share: Annotated[float, Ge(0), Le(1)] = 0.5) -> None:
        self._share = share

    def __call__(self, batch: Batch, context: LossContext) -> LossRecord:
        drawn = context.draw_times(len(batch))
        epsilon = context.process.draw(batch.x_0, context.noise, batch.given)
        x_t = context.process.diffuse(batch.x_0, drawn.t, epsilon)
        told = context.noise.uniform((len(batch), *[1] * (x_t.ndim - 1))) < self._share
        with torch.no_grad():
            estimate = context.denoiser(x_t, drawn.t).x_0
        x_0 = context.denoiser(x_t, drawn.t, given={X_0: torch.where(told, estimate, 0.0)}).x_0
        error = (x_0 - batch.x_0).square().flatten(1).mean(1)
        return LossRecord(drawn.weight.to(error) * error, drawn.t)


class SelfConditioning(Guidance):
    """Tells the network its own last estimate, from the second question of a trajectory on."""

    gives: ClassVar[tuple[str, ...]] = (X_0,)

    exempt: ClassVar = {"guidance_has_an_effect": "x_0 is seen by networks that take it"}

    def guide(self, make_denoiser: MakeDenoiser, conditioning: Conditioning) -> GuidedDenoiser:
        return _Told(make_denoiser(conditioning.condition))


class _Told(GuidedDenoiser):
    last = None

    def start(self, inputs):
        started = super().start(inputs)
        started.last = None
        return started

    def __call__(self, x_t, t, *, given=None, times=None):
        told = {} if self.last is None else {X_0: self.last}
        return super().__call__(x_t, t, given={**told, **(given or {})}, times=times)

    def combine(self, predictions, x_t, t):
        self.last = predictions[0].x_0
        return predictions[0]


class ToldMLP(EpsilonModel):
    """A network of points that may be told an estimate of them; zeros where it is not."""

    exempt: ClassVar = {
        "neighbouring_noise_levels_are_told_apart": "a small network, for float32 alone",
    }

    def __init__(self, *, shape: DataShape, width: Annotated[int, Gt(0)] = 64) -> None:
        super().__init__()
        count = shape[0]
        self.layers = nn.Sequential(
            nn.Linear(2 * count + 1, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, count),
        )

    @classmethod
    def examples(cls):
        return [Example({"width": 32}, shape=(2,))]

    @classmethod
    def facts(cls, config):
        return {"given": (X_0,)}

    def forward(self, x, c_noise, condition):
        told = condition.get(X_0, torch.zeros_like(x))
        return self.layers(torch.cat([x, told, c_noise[:, None] / 1000], dim=1))
