"""DPM-Solver++, second order, multistep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import final

from torch import Tensor

from diffkit.core.gaussian_sampler import GaussianPredictor, GaussianSampler
from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import Level
from diffkit.core.sampler import State
from diffkit.functional.coefficients import Number, axpby
from diffkit_samplers._history import orders
from diffkit_samplers._levels import step_weights


@final
class DPMpp2M(GaussianSampler):
    """`x_s = (sigma_s/sigma_t) x_t - alpha_s expm1(-h) ((1 + 1/2r) D_t - 1/2r D_before)`.

    `h = lambda_s - lambda_t`, `r` the length of the step before in units of h. Lu et al. (2022),
    DPM-Solver++, Algorithm 2. The first step and the one to s = 0 are of first order, and so is
    one from a time without signal, and one much longer than the one before, as on the spacing
    `leading`, which would amplify what is wrong in the predictions; see `orders`.
    """

    @property
    def order(self) -> int:
        """2."""
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
            x = _step(x, prediction, before if order > 1 else None, at_t, at_s)
            before = (at_t, prediction.x_0)
            yield State(x, at_s, prediction)


def _step(
    x_t: Tensor,
    prediction: GaussianPrediction,
    before: tuple[Level, Tensor] | None,
    at_t: Level,
    at_s: Level,
) -> Tensor:
    """`data_step` along what is extrapolated, without a pass over the data for it alone."""
    beyond = extrapolation_weight(before, at_t, at_s)
    on_x_t, on_x_0 = step_weights(at_t, at_s)
    if before is None or beyond is None:
        return axpby(on_x_t, x_t, on_x_0, prediction.x_0)
    along = axpby(on_x_t, x_t, on_x_0 * (1 + beyond), prediction.x_0)
    return axpby(1.0, along, -on_x_0 * beyond, before[1])


def extrapolation_weight(
    before: tuple[Level, Tensor] | None, at_t: Level, at_s: Level
) -> Number | None:
    """`1/2r`; None where there is no prediction before, or a log-SNR is infinite."""
    if before is None or not (before[0].finite and at_t.finite and at_s.finite):
        return None
    return 0.5 * (at_s.lambda_ - at_t.lambda_) / (at_t.lambda_ - before[0].lambda_)


def extrapolated(
    x_0: Tensor, before: tuple[Level, Tensor] | None, at_t: Level, at_s: Level
) -> Tensor:
    """The prediction half a step ahead, on the line through this one and the one before.

    `x_0` as it is where there is none before, or a log-SNR is infinite.
    """
    beyond = extrapolation_weight(before, at_t, at_s)
    if before is None or beyond is None:
        return x_0
    return axpby(1 + beyond, x_0, -beyond, before[1])
