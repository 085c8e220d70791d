"""Ancestral sampling by Euler steps."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

from annotated_types import Ge, Le
from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import State, StepSampler
from diffkit_samplers._ancestral import ancestral_step
from diffkit_samplers._arguments import at_least
from diffkit_samplers._levels import level
from diffkit_samplers._predictor import Predictor

_NAME = "samplers.euler-ancestral"


@final
class EulerAncestral(StepSampler):
    """An Euler step of the probability flow to less noise than s has, and fresh noise up to s.

    With `y = x / alpha` and `sigma' = sigma / alpha`, from `sigma'_t` down to
    `sigma'_down^2 = sigma'_s^2 - sigma'_up^2`, where
    `sigma'_up^2 = eta^2 sigma'_s^2 (1 - sigma'_s^2/sigma'_t^2)`. This is the sampler known by
    this name since k-diffusion. An Euler step in these variables is a DDIM step, so the whole is
    DDIM with this eta (Song et al., 2021, DDIM, eq. 12 and 16), whose default here is 1.

    Args:
        eta: the share of the posterior's noise; 0 is `euler`, 1 is `ddpm` with `fixed_small`.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess  # type: ignore[type-abstract]

    def __init__(self, *, eta: Annotated[float, Ge(0), Le(1)] = 1.0) -> None:
        self._eta = at_least(_NAME, "eta", eta, 0.0, 1.0)

    @property
    def order(self) -> int:
        """1, of the mean and the variance."""
        return 1

    def step(self, denoiser: Denoiser, x_t: Tensor, t: float, s: float, noise: Noise) -> State:
        """One step; the last, to `s = 0`, adds no noise and ends at the predicted `x_0`."""
        ask = Predictor(_NAME, denoiser)
        prediction = ask(x_t, t)
        ends = level(ask.process, t), level(ask.process, s)
        x_s = ancestral_step(prediction, x_t, *ends, self._eta, noise)
        return State(x_s, s, prediction)
