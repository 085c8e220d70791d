"""Ancestral sampling of any process."""

from __future__ import annotations

from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.sampler import State, StepSampler


class Ancestral(StepSampler):
    """Draws `x_s` from `p(x_s | x_t)` at the predicted data: the process's own `reverse`.

    `p(x_s | x_t) = q(x_s | x_t, x_0 = x_hat_0(x_t, t))`, Ho et al. (2020), Algorithm 2; of tokens
    Austin et al. (2021), D3PM, eq. 4, and Sahoo et al. (2024), MDLM, eq. 7. The process need not be
    Gaussian. Of one that is, this is `ddpm` without a choice of variance, bit for bit.
    """

    @property
    def order(self) -> int:
        """1: a step puts one prediction, made at its start, in the place of all the data that may
        lie behind `x_t`, which is wrong in the second order of the step.
        """
        return 1

    def step(self, denoiser: Denoiser, x_t: Tensor, t: float, s: float, noise: Noise) -> State:
        """One ancestral step."""
        prediction = denoiser(x_t, t)
        return State(denoiser.process.reverse(prediction, x_t, t, s, noise), s, prediction)
