"""Going back up in noise before a step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from diffkit.core.noise import Noise
from diffkit.core.process import GaussianProcess, Level
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import axpby, exp, sqrt
from diffkit_samplers._arguments import at_least, positive
from diffkit_samplers._levels import single


@final
@dataclass(frozen=True)
class Churn:
    """The stochastic part of Karras et al. (2022), EDM, Algorithm 2, lines 4 to 6.

    With `y = x / alpha` and `sigma' = sigma / alpha`: where `least <= sigma'_t <= most`, noise of
    the deviation `scale` is added up to `sigma'_t (1 + gamma)`, `gamma = min(amount / N,
    sqrt(2) - 1)`, over the N steps of a trajectory. It never leaves the noise levels of the
    schedule.
    """

    name: str
    amount: float | None
    least: float
    most: float | None
    scale: float

    def __post_init__(self) -> None:
        for problem in churn_problems(self.amount, self.least, self.most, self.scale):
            raise ComponentError(f"{self.name}: {problem}")
        at_least(self.name, "churn_min", self.least, 0.0)
        for field, value in (
            ("churn", self.amount),
            ("churn_max", self.most),
            ("churn_noise", self.scale),
        ):
            if value is not None:
                positive(self.name, field, value)

    def __call__(
        self, process: GaussianProcess, x_t: Tensor, at_t: Level, steps: int, noise: Noise
    ) -> tuple[Tensor, Level]:
        """`x_t` with more noise, and its level; both as they are where nothing is to be added."""
        if self.amount is None or not at_t.finite:
            return x_t, at_t
        lambda_ = single(self.name, at_t)
        most = math.inf if self.most is None else self.most
        if not self.least <= math.exp(-lambda_) <= most:
            return x_t, at_t
        gamma = min(self.amount / steps, math.sqrt(2.0) - 1.0)
        noisiest = float(process.log_snr(1.0))
        log_snr = max(2 * (lambda_ - math.log1p(gamma)), noisiest)
        if log_snr >= 2 * lambda_:
            return x_t, at_t
        up = process.level(_time_at(process, log_snr, at_t))
        added = exp(-up.log_snr) - exp(-at_t.log_snr)
        if not float(added) > 0.0:
            return x_t, at_t
        drawn = noise.normal(x_t.shape)
        deviation = self.scale * up.alpha * sqrt(added)
        return axpby(up.alpha / at_t.alpha, x_t, deviation, drawn), up


def churn_problems(
    amount: float | None, least: float, most: float | None, scale: float
) -> Iterable[str]:
    """The problems of these options beside one another: no effect, or no level between."""
    given = {"churn_min": (least, 0.0), "churn_max": (most, None), "churn_noise": (scale, 1.0)}
    idle = [f"{name} = {value}" for name, (value, none) in given.items() if value != none]
    if amount is None and idle:
        yield (
            f"{' and '.join(idle)} would do nothing, as churn is None and no noise is added; "
            f"give churn, or leave {'it' if len(idle) == 1 else 'them'} out"
        )
    elif most is not None and most < least:
        yield (
            f"churn_max is {most}, below churn_min, {least}; no noise level lies between them; "
            "raise churn_max or lower churn_min"
        )


def _time_at(process: GaussianProcess, log_snr: float, t: float) -> float:
    found = float(process.schedule.time_at(torch.tensor(log_snr, dtype=torch.float64)))
    # Rounding must neither leave the schedule nor lose noise.
    return min(max(found, t), 1.0)
