"""DPM-Solver++ for the diffusion SDE, second order, multistep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, final

from annotated_types import Ge
from torch import Tensor

from diffkit.core.gaussian_sampler import GaussianPredictor, GaussianSampler
from diffkit.core.noise import Noise
from diffkit.core.process import Level
from diffkit.core.sampler import State
from diffkit.functional.coefficients import axpby, exp, expm1, sqrt
from diffkit_samplers._arguments import at_least
from diffkit_samplers._history import orders
from diffkit_samplers._levels import data_step
from diffkit_samplers.dpmpp_2m import extrapolated

_NAME = "samplers.dpmpp-2m-sde"


@final
class DPMpp2MSDE(GaussianSampler):
    """`x_s = (sigma_s/sigma_t) e^(-eta h) x_t - alpha_s expm1(-(1 + eta) h) D' + d z`.

    `d^2 = -sigma_s^2 expm1(-2 eta h)`, and `D'` is extrapolated from the last two predictions as
    in `dpmpp-2m`. With eta = 1 it is SDE-DPM-Solver++(2M), Lu et al. (2022), DPM-Solver++,
    section 5. The first step, the one to s = 0, one from a time without signal and, as in
    `dpmpp-2m`, one much longer than the one before are of first order; with
    eta = 1 they are steps of `ddpm` with `fixed_small`.

    Args:
        eta: how much noise is drawn in the trajectory; 0 draws none and is `dpmpp-2m`, 1 solves the
            reverse of the forward process.
    """

    def __init__(self, *, eta: Annotated[float, Ge(0)] = 1.0) -> None:
        self._eta = at_least(_NAME, "eta", eta, 0.0)

    @property
    def order(self) -> int:
        """2, of the mean and the variance."""
        return 2

    @property
    def order_on_uneven_steps(self) -> int:
        """The same: steps know how long the ones before were."""
        return self.order

    def solve(
        self, predict: GaussianPredictor, x: Tensor, levels: Sequence[Level], noise: Noise
    ) -> Iterator[State]:
        """One call a step; the history is the prediction of the step before."""
        before: tuple[Level, Tensor] | None = None
        for (at_t, at_s), order in zip(pairwise(levels), orders(levels, 2), strict=True):
            prediction = predict(x, at_t)
            x_0 = extrapolated(prediction.x_0, before if order > 1 else None, at_t, at_s)
            x = self._step(x, x_0, at_t, at_s, noise)
            before = (at_t, prediction.x_0)
            yield State(x, at_s, prediction)

    def _step(self, x_t: Tensor, x_0: Tensor, at_t: Level, at_s: Level, noise: Noise) -> Tensor:
        if self._eta == 0.0 or at_s == 0.0:
            return data_step(x_t, x_0, at_t, at_s)
        h, eta = at_s.lambda_ - at_t.lambda_, self._eta
        kept = at_s.sigma / at_t.sigma * exp(-eta * h)
        mean = axpby(kept, x_t, -at_s.alpha * expm1(-(1 + eta) * h), x_0)
        deviation = at_s.sigma * sqrt(-expm1(-2 * eta * h))
        return axpby(1.0, mean, deviation, noise.normal(x_t.shape))
