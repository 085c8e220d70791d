"""The predictions that a multistep solver remembers, within one trajectory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from diffkit.core.process import Level
from diffkit.functional.coefficients import Number, axpby, expm1
from diffkit_samplers._levels import path_weights, weighted


@final
class History:
    """The last few predictions of `x_0` and their lambdas, the newest first."""

    def __init__(self, size: int) -> None:
        self.lambdas: deque[float] = deque(maxlen=size)
        self.values: deque[Tensor] = deque(maxlen=size)

    def add(self, lambda_: float, x_0: Tensor) -> None:
        """Remember a prediction, and forget the oldest where there are too many."""
        self.lambdas.appendleft(lambda_)
        self.values.appendleft(x_0)

    def keep(self, most: int) -> None:
        """Forget all but the newest few."""
        while len(self.lambdas) > most:
            self.lambdas.pop()
            self.values.pop()

    def step(self, x_t: Tensor, at_t: Level, at_s: Level) -> Tensor:
        """From t to s along the polynomial in lambda through all that is remembered."""
        found = weights_along(list(self.lambdas), float(at_t.lambda_), float(at_s.lambda_))
        weights = [float(weight) for weight in found]
        path = weighted(list(self.values), weights)
        return axpby(at_s.sigma / at_t.sigma, x_t, at_s.alpha, path)


def weights_along(lambdas: Sequence[Number], start: Number, end: Number) -> list[Number]:
    """What multiplies predictions at these lambdas in a step along the polynomial through them.

    Of the line through two, the first at the start, its middle stands for all of the step, as in
    `dpmpp-2m`, of the same order: over long steps its end would weigh most, where it is
    extrapolated farthest.
    """
    h = end - start
    if len(lambdas) == 2:
        share, whole = 0.5 * h / (start - lambdas[1]), -expm1(-h)
        return [whole * (1.0 + share), -whole * share]
    return [*path_weights([float(lambda_) - float(start) for lambda_ in lambdas], float(h))]


MOST = {2: 2.25, 3: 1.7}
"""How large the weights of a step may be together, by its order. Along the line they are 2 in even
steps however long; along the parabola 1.5 in even steps of 0.5 in lambda, and 4 in those of 2."""


def orders(levels: Sequence[Level], highest: int) -> list[int]:
    """The order of each step of a trajectory over these noise levels, `highest` at most.

    A polynomial is extrapolated, and its weights w multiply what is wrong in the predictions:
    errors of size e make one of `alpha_s sum_j |w_j| e` at s. The sum grows with the length of the
    step, and with how much longer it is than those before: it is `-expm1(-h) (1 + h/h_before)`
    along the line. A step has the highest order whose sum is in bounds. On short steps it always
    is, so that the order of the whole stays. Few steps have low orders where they become longer:
    Lu et al. (2022), DPM-Solver++, and Zhao et al. (2023), UniPC, lower those at the end of short
    trajectories (`lower_order_final`), whatever the spacing.
    """
    return [
        next(o for o in range(min(highest, at + 1), 0, -1) if _in_bounds(levels, at, o))
        for at in range(len(levels) - 1)
    ]


def _in_bounds(levels: Sequence[Level], at: int, order: int) -> bool:
    """Whether the step from `levels[at]` may have this order; where one is infinite, any."""
    nodes, end = levels[at + 1 - order : at + 1][::-1], levels[at + 1]
    if order == 1 or not all(level.finite for level in (*nodes, end)):
        return True
    weights = weights_along([node.lambda_ for node in nodes], nodes[0].lambda_, end.lambda_)
    # One for each coordinate, of a process with as many noise levels.
    size = sum(torch.as_tensor(w).detach().abs() for w in weights)
    return float(torch.as_tensor(size).max()) <= MOST[order]


def needs_extra_call(times: Sequence[float]) -> bool:
    """Whether a solver that raises its first step by one more call does so on this trajectory.

    It must have a step with a finite log-SNR at both ends, whatever the schedule: the step to
    s = 0 has none, and the first has none where no signal is left at t = 1.
    """
    return len(times) - 1 - (times[-1] == 0.0) >= 2
