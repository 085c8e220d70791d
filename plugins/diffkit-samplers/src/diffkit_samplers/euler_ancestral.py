"""Ancestral sampling by Euler steps."""

from __future__ import annotations

from typing import Annotated, final

from annotated_types import Ge, Le
from torch import Tensor

from diffkit.core.gaussian_sampler import GaussianStepSampler
from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import Level
from diffkit_samplers._ancestral import ancestral_step
from diffkit_samplers._arguments import at_least

_NAME = "samplers.euler-ancestral"


@final
class EulerAncestral(GaussianStepSampler):
    """An Euler step of the probability flow to less noise than s has, and fresh noise up to s.

    With `y = x / alpha` and `sigma' = sigma / alpha`, from `sigma'_t` down to
    `sigma'_down^2 = sigma'_s^2 - sigma'_up^2`, where
    `sigma'_up^2 = eta^2 sigma'_s^2 (1 - sigma'_s^2/sigma'_t^2)`. This is the sampler known by
    this name since k-diffusion. An Euler step in these variables is a DDIM step, so the whole is
    DDIM with this eta (Song et al., 2021, DDIM, eq. 12 and 16), whose default here is 1.

    Args:
        eta: the share of the posterior's noise; 0 is `euler`, 1 is `ddpm` with `fixed_small`.
    """

    def __init__(self, *, eta: Annotated[float, Ge(0), Le(1)] = 1.0) -> None:
        self._eta = at_least(_NAME, "eta", eta, 0.0, 1.0)

    @property
    def order(self) -> int:
        """1, of the mean and the variance."""
        return 1

    def step(self, prediction: GaussianPrediction, t: Level, s: Level, noise: Noise) -> Tensor:
        """One step; the last, to `s = 0`, adds no noise and ends at the predicted `x_0`."""
        return ancestral_step(prediction, t, s, self._eta, noise)
