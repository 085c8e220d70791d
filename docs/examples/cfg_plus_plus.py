"""CFG++: the guided estimate of the data, and the noise of the unguided one.

Chung et al. (2025), *CFG++: manifold-constrained classifier free guidance for diffusion models*,
Algorithm 2. The guidance hands the unguided noise on beside its prediction; the sampler takes it
from there.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le

from diffkit.core import (
    Conditioning,
    Denoiser,
    GaussianProcess,
    Guidance,
    GuidedDenoiser,
    MakeDenoiser,
    State,
    StepSampler,
    joined,
)

UNGUIDED = "unguided epsilon"


class Interpolation(Guidance):
    """`epsilon = null + scale (conditional - null)`, for scales in [0, 1], and the null beside it.

    Args:
        scale: their lambda.
    """

    needs_null: ClassVar[bool] = True

    def __init__(self, *, scale: Annotated[float, Ge(0), Le(1)] = 0.6) -> None:
        self._scale = scale

    def guide(self, make_denoiser: MakeDenoiser, conditioning: Conditioning) -> Denoiser:
        both = make_denoiser(joined(conditioning.condition, conditioning.null))
        return _Between(both, self._scale)


class _Between(GuidedDenoiser):
    def __init__(self, both: Denoiser, scale: float) -> None:
        super().__init__(both, copies=2)
        self._scale = scale

    def combine(self, predictions, x_t, t):
        towards, away = predictions
        led = towards.with_output(torch.lerp(away.output, towards.output, self._scale))
        return led.with_extras({**towards.extras, UNGUIDED: away.epsilon})


class CFGPlusPlus(StepSampler):
    """`x_s = alpha_s x_0(guided) + sigma_s epsilon(unguided)`."""

    process_class: ClassVar[type[GaussianProcess]] = GaussianProcess

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        epsilon = prediction.extras.get(UNGUIDED, prediction.epsilon)
        return State(denoiser.process.diffuse(prediction.x_0, s, epsilon), s, prediction)
