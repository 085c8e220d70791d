"""Representation alignment (REPA): hidden features are drawn towards those of a fixed network.

Yu et al. (2025), *Representation alignment for generation*, eq. 8. The loss holds the projector,
which is trained and saved with the run; the network gives its features beside its output.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import nn
from torch.nn import functional

from diffkit.core import (
    Batch,
    DataShape,
    EpsilonModel,
    Example,
    GaussianProcess,
    Loss,
    LossContext,
    LossRecord,
    Output,
    seeded,
)

FEATURES = "features"


class Repa(nn.Module, Loss):
    """`|epsilon - epsilon_theta|^2 + strength (1 - cos(project(h(x_t)), f(x_0)))`.

    Args:
        width: of the network's features.
        strength: lambda of their eq. 9.
        seed: of the fixed network, which stands here for DINOv2: random convolutions.
    """

    process_class: ClassVar[type[GaussianProcess]] = GaussianProcess
    extras: ClassVar[tuple[str, ...]] = (FEATURES,)

    def __init__(
        self,
        *,
        width: Annotated[int, Gt(0)] = 64,
        strength: Annotated[float, Ge(0)] = 0.5,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self._strength = strength
        with seeded(seed):
            # In a list, so that it is none of the modules that are trained and saved.
            self._fixed = [nn.Conv2d(1, 32, 4, stride=2).requires_grad_(False)]
        self.project = nn.Sequential(nn.Linear(width, 128), nn.SiLU(), nn.Linear(128, 32))

    @classmethod
    def examples(cls):
        return [
            Example(extras={FEATURES: lambda count: torch.linspace(-1, 1, 64).repeat(count, 1)})
        ]

    def __call__(self, batch: Batch, context: LossContext) -> LossRecord:
        drawn = context.draw_times(len(batch))
        epsilon = context.process.draw(batch.x_0, context.noise, batch.given)
        said = context.denoiser(context.process.diffuse(batch.x_0, drawn.t, epsilon), drawn.t)
        error = (said.epsilon - epsilon).square().flatten(1).mean(1)
        wanted = self._fixed[0].to(batch.x_0)(batch.x_0).relu().mean((2, 3))
        apart = 1 - functional.cosine_similarity(self.project(said.extras[FEATURES]), wanted)
        values = drawn.weight.to(error) * (error + self._strength * apart)
        return LossRecord(values, drawn.t, {"error": error, "apart": apart})


class Featured(EpsilonModel):
    """A small convolutional network of grey pictures that also gives features."""

    exempt: ClassVar = {
        "neighbouring_noise_levels_are_told_apart": "a small network, for float32 alone",
    }

    def __init__(self, *, shape: DataShape, width: Annotated[int, Gt(0)] = 64) -> None:
        super().__init__()
        self.first = nn.Conv2d(shape[0] + 1, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, shape[0], 3, padding=1)

    @classmethod
    def examples(cls):
        return [Example({"width": 32})]

    @classmethod
    def facts(cls, config):
        return {"extras": (FEATURES,)}

    def forward(self, x, c_noise, condition):
        level = (c_noise / 1000).reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:]).to(x.dtype)
        hidden = functional.silu(self.first(torch.cat([x, level], dim=1)))
        hidden = hidden + functional.silu(self.second(hidden))
        return Output(self.last(hidden), {FEATURES: hidden.mean((2, 3))})
