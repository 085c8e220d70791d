"""Denoising diffusion implicit models."""

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

_NAME = "samplers.ddim"


@final
class DDIM(GaussianStepSampler):
    """`x_s = alpha_s x_0 + sqrt(sigma_s^2 - d^2) epsilon + d z`, `d = eta sigma_s sqrt(r)`.

    Song et al. (2021), DDIM, eq. 12 and 16, for any Gaussian process.

    Args:
        eta: 0 draws no noise and follows the probability flow; 1 is `ddpm` with `fixed_small`.
    """

    def __init__(self, *, eta: Annotated[float, Ge(0), Le(1)] = 0.0) -> None:
        self._eta = at_least(_NAME, "eta", eta, 0.0, 1.0)

    @property
    def order(self) -> int:
        """1; with noise, of the mean and the variance."""
        return 1

    def step(self, prediction: GaussianPrediction, t: Level, s: Level, noise: Noise) -> Tensor:
        """One step; the last, to `s = 0`, adds no noise and ends at the predicted `x_0`."""
        return ancestral_step(prediction, t, s, self._eta, noise)
