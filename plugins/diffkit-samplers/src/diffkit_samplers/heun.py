"""Heun steps of the probability flow, with or without churn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Annotated, final

from annotated_types import Ge, Gt
from torch import Tensor

from diffkit.core.component import Config, Facts
from diffkit.core.gaussian_sampler import GaussianPredictor, GaussianSampler
from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import Level
from diffkit.core.sampler import State
from diffkit_samplers._any_time import any_time
from diffkit_samplers._churn import Churn, churn_problems
from diffkit_samplers._levels import data_step, noise_correction, predicted_step

_CHURNS = "churn asks between the times of the trajectory"


@final
class Heun(GaussianSampler):
    """An Euler step, then the same with the mean of the slopes at both its ends.

    `y_s = y_t + (sigma'_s - sigma'_t) (epsilon_t + epsilon_s)/2`, `y = x/alpha`,
    `sigma' = sigma/alpha`. Karras et al. (2022), EDM, Algorithms 1 and 2. The step to s = 0 is
    Euler's. Where t has no signal, `sigma'` is infinite, and the mean is taken of the predicted
    `x_0` instead: the same rule in the variables `x/sigma` and `alpha/sigma`.

    The trapezoid in `sigma'` needs steps over which `sigma'` changes by no more than a small
    factor. Use it with the spacing `samplers.uniform-log-snr` or `samplers.karras`; steps that are
    even in time, of a schedule that ends in almost pure noise, make its first step useless.

    Args:
        churn: how much noise is added in a trajectory, `S_churn`; None draws none: deterministic.
        churn_min: the smallest `sigma / alpha` at which noise is added.
        churn_max: the largest; None sets no limit.
        churn_noise: the deviation of the added noise, `S_noise`; a little above 1 makes up for
            detail that networks lose.
    """

    def __init__(
        self,
        *,
        churn: Annotated[float, Gt(0)] | None = None,
        churn_min: Annotated[float, Ge(0)] = 0.0,
        churn_max: Annotated[float, Gt(0)] | None = None,
        churn_noise: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        self._churn = Churn("samplers.heun", churn, churn_min, churn_max, churn_noise)

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """For churn, bounds that mean something and a model for any time."""
        yield from churn_problems(
            config.churn, config.churn_min, config.churn_max, config.churn_noise
        )
        if config.churn is not None:
            yield from any_time(facts, _CHURNS)

    @property
    def order(self) -> int:
        """2; with churn, of the mean and the variance."""
        return 2

    def calls(self, times: Sequence[float]) -> int:
        """Two a step, but for one to s = 0."""
        return 2 * (len(times) - 1) - (times[-1] == 0.0)

    def solve(
        self, predict: GaussianPredictor, x: Tensor, levels: Sequence[Level], noise: Noise
    ) -> Iterator[State]:
        """Two calls a step, but for one to s = 0."""
        for at_t, at_s in pairwise(levels):
            x, at_t = self._churn(predict.process, x, at_t, len(levels) - 1, noise)
            prediction = predict(x, at_t)
            x = heun_step(predict, prediction, x, at_t, at_s)
            yield State(x, at_s, prediction)


def heun_step(
    predict: GaussianPredictor,
    prediction: GaussianPrediction,
    x_t: Tensor,
    at_t: Level,
    at_s: Level,
) -> Tensor:
    """One step from `x_t`, where `prediction` was made; it asks once more unless s = 0."""
    x_s = predicted_step(prediction, at_t, at_s)
    if at_s == 0.0:
        return x_s
    ahead = predict(x_s, at_s)
    if not at_t.finite:
        return data_step(x_t, 0.5 * (prediction.x_0 + ahead.x_0), at_t, at_s)
    return noise_correction(x_s, 0.5 * (ahead.epsilon - prediction.epsilon), at_t, at_s)
