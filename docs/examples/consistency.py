"""Consistency training: a loss whose target is the moving average, and samples in one call or two.

Song, Dhariwal, Chen & Sutskever (2023), *Consistency models*. For the parameterization `edm`,
whose x_0 is x_t itself where no noise is left: their boundary condition, eq. 5.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge

from diffkit.core import (
    Batch,
    GaussianProcess,
    Loss,
    LossContext,
    LossRecord,
    State,
    StepSampler,
)


class ConsistencyTraining(Loss):
    """`|f(x + sigma z, sigma) - f_average(x + sigma' z, sigma')|^2`, Algorithm 3.

    The times are those of `times`; the earlier one is a step of the grid before it, whose number
    doubles as training goes on (section 5).

    Args:
        first: steps of the grid at the beginning of training.
        last: and at its end.
    """

    process_class: ClassVar[type[GaussianProcess]] = GaussianProcess

    def __init__(
        self, *, first: Annotated[int, Ge(2)] = 8, last: Annotated[int, Ge(2)] = 64
    ) -> None:
        self._first, self._last = first, last

    def __call__(self, batch: Batch, context: LossContext) -> LossRecord:
        process, drawn = context.process, context.draw_times(len(batch))
        done = context.step / max(context.steps, 1)
        steps = round(self._first * (self._last / self._first) ** done)
        least = process.schedule.t_min
        t = (drawn.t * steps).ceil() / steps
        s = (t - 1.0 / steps).clamp(min=max(least, 1e-3))
        epsilon = process.draw(batch.x_0, context.noise, batch.given)
        said = context.denoiser(process.diffuse(batch.x_0, t, epsilon), t).x_0
        with torch.no_grad():
            target = context.average or context.denoiser
            wanted = target(process.diffuse(batch.x_0, s, epsilon), s).x_0
        error = (said - wanted).square().flatten(1).mean(1)
        return LossRecord(drawn.weight.to(error) * error, drawn.t)


class ConsistencySampler(StepSampler):
    """`x_0 = f(x_t)`, and noise again for the next step. Algorithm 1."""

    exempt: ClassVar = {
        "reaches_the_data": "it is for networks that give one x_0, where a denoiser gives the mean",
        "reaches_a_mixture": "the same",
    }
    process_class: ClassVar[type[GaussianProcess]] = GaussianProcess

    def step(self, denoiser, x_t, t, s, noise):
        prediction, process = denoiser(x_t, t), denoiser.process
        if s == 0.0:
            return State(prediction.x_0, s, prediction)
        return State(process.diffuse(prediction.x_0, s, noise.normal(x_t.shape)), s, prediction)
