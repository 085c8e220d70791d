"""A loss with parameters of its own: the uncertainty of each noise level, as EDM2 learns it."""

from __future__ import annotations

import torch
from torch import nn

from diffkit.core import Loss, LossRecord


class Uncertain(Loss, nn.Module):
    """`exp(-u) error + u` with u a line over t. Kendall et al. (2018), eq. 7."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.line = nn.Parameter(torch.zeros(2))

    def __call__(self, batch, context):
        drawn = context.draw_times(len(batch))
        epsilon = context.noise.normal(batch.x_0.shape)
        x_t = context.process.diffuse(batch.x_0, drawn.t, epsilon)
        prediction = context.denoiser(x_t, drawn.t)
        error = (prediction.epsilon - epsilon).square().flatten(1).mean(1)
        t = drawn.t.to(error.device, error.dtype)
        u = self.line[0] + self.line[1] * t
        return LossRecord(
            (-u).exp() * error + u, drawn.t, {"error": error.detach(), "u": u.detach()}
        )
