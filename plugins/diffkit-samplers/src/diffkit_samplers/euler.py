"""Euler steps of the probability flow, with or without churn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Annotated, final

from annotated_types import Ge, Gt
from torch import Tensor

from diffkit.core.component import Config, Facts
from diffkit.core.gaussian_sampler import GaussianPredictor, GaussianSampler
from diffkit.core.noise import Noise
from diffkit.core.process import Level
from diffkit.core.sampler import State
from diffkit_samplers._any_time import any_time
from diffkit_samplers._churn import Churn, churn_problems
from diffkit_samplers._levels import predicted_step

_CHURNS = "churn asks between the times of the trajectory"


@final
class Euler(GaussianSampler):
    """`y_s = y_t + (sigma'_s - sigma'_t) (y_t - D)/sigma'_t`, `y = x/alpha, sigma' = sigma/alpha`.

    Karras et al. (2022), EDM, Algorithms 1 and 2 without the correction. In these variables an
    Euler step is a DDIM step with eta = 0, so without churn the two samplers are one.

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
        self._churn = Churn("samplers.euler", churn, churn_min, churn_max, churn_noise)

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
        """1; with churn, of the mean and the variance."""
        return 1

    def solve(
        self, predict: GaussianPredictor, x: Tensor, levels: Sequence[Level], noise: Noise
    ) -> Iterator[State]:
        """One call a step."""
        for at_t, at_s in pairwise(levels):
            x, up = self._churn(predict.process, x, at_t, len(levels) - 1, noise)
            prediction = predict(x, up)
            x = predicted_step(prediction, up, at_s)
            yield State(x, at_s, prediction)
