"""Mean flows: samples in one call of the network.

Geng et al. (2025), *Mean flows for one-step generative modeling*. Names are theirs: `u(z, r, t)`
is the velocity averaged over the times from r to t.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.schedules.rectified import Rectified
from diffkit.core import (
    Batch,
    DataShape,
    Denoiser,
    EpsilonModel,
    Example,
    Loss,
    LossContext,
    LossRecord,
    Noise,
    State,
    StepSampler,
    Target,
)
from diffkit.errors import ComponentError

VELOCITY = Target(-1.0, 1.0)
"""Of a rectified flow: `epsilon - x_0`."""


class MeanFlow(Loss):
    """`|u(z, r, t) - stop(v - (t - r) (v du/dz + du/dt))|^2`, eq. 10 and 11.

    The derivative along the path is one product in forward mode, at the cost of a second call.

    Args:
        apart: how often r is another time than t; elsewhere it is the flow's own loss.
        power: p of the weight `1 / (error + 0.001)^p`, eq. 22; 0 is none.
    """

    process_class: ClassVar[type[RectifiedFlow]] = RectifiedFlow
    gives: ClassVar[tuple[str, ...]] = ("r",)

    def __init__(
        self,
        *,
        apart: Annotated[float, Ge(0), Le(1)] = 0.5,
        power: Annotated[float, Ge(0)] = 1.0,
    ) -> None:
        self._apart, self._power = apart, power

    @classmethod
    def examples(cls):
        return [Example(process=lambda: RectifiedFlow(schedule=Rectified()))]

    def __call__(self, batch: Batch, context: LossContext) -> LossRecord:
        count, process = len(batch), context.process
        drawn = context.draw_times(count)
        apart = context.draw_uniform(count) < self._apart
        t = drawn.t.clamp(max=1 - 1e-5)  # At 1 the log-SNR is -inf, and has no derivative.
        r = torch.where(apart, context.draw_uniform(count) * t, t)
        if not torch.allclose(process.scales(process.log_snr(t)).sigma, t):
            raise ComponentError("mean flows are in a time that is sigma: the schedule rectified")
        epsilon = process.draw(batch.x_0, context.noise, batch.given)
        z, v = process.diffuse(batch.x_0, t, epsilon), epsilon - batch.x_0

        def average(z: Tensor, t: Tensor) -> Tensor:
            return context.denoiser(z, t, times={"r": r}).as_target(VELOCITY)

        u, along = torch.func.jvp(average, (z, t), (v, torch.ones_like(t)))
        wide = (t - r).to(z).reshape(-1, *[1] * (z.ndim - 1))
        error = (u - (v - wide * along).detach()).square().flatten(1).mean(1)
        weight = drawn.weight.to(error) * (error.detach() + 1e-3).pow(-self._power)
        return LossRecord(weight * error, drawn.t, {"error": error})


class MeanFlowSampler(StepSampler):
    """`x_s = x_t - (sigma_t - sigma_s) u(x_t, s, t)`, eq. 12: exact in one step, if u is."""

    process_class: ClassVar[type[RectifiedFlow]] = RectifiedFlow
    gives: ClassVar[tuple[str, ...]] = ("r",)

    def step(self, denoiser: Denoiser, x_t: Tensor, t: float, s: float, noise: Noise) -> State:
        prediction = denoiser(x_t, t, times={"r": s})
        at, then = (denoiser.process.level(time).sigma for time in (t, s))
        x_s = x_t - (at - then) * prediction.as_target(VELOCITY)
        return State(x_s, s, prediction)


class AverageVelocity(EpsilonModel):
    """A network of points with two times, for `parameterization: flow`."""

    exempt: ClassVar = {
        "neighbouring_noise_levels_are_told_apart": "a small network, for float32 alone",
    }

    def __init__(
        self,
        *,
        shape: DataShape,
        width: Annotated[int, Gt(0)] = 128,
        depth: Annotated[int, Gt(0)] = 3,
    ) -> None:
        super().__init__()
        inside = [shape[0] + 4, *[width] * depth]
        layers = [layer for a, b in pairwise(inside) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(width, shape[0]))

    @classmethod
    def examples(cls):
        return [Example({"width": 32}, shape=(2,))]

    @classmethod
    def facts(cls, config):
        return {"times": ("r",)}

    def forward(self, x, c_noise, condition):
        t, r = (level[:, None] / 1000 for level in (c_noise, condition["r"]))
        return self.layers(torch.cat([x, t, r, t - r, (t - r).square()], dim=1))
