"""UniPC, a predictor and a corrector of any order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Literal, final

from annotated_types import Ge, Le
from torch import Tensor

from diffkit.core.gaussian_sampler import GaussianPredictor, GaussianSampler
from diffkit.core.noise import Noise
from diffkit.core.process import Level
from diffkit.core.sampler import State
from diffkit.errors import ComponentError
from diffkit_samplers._history import History, orders
from diffkit_samplers._levels import data_step, single

_NAME = "samplers.unipc"
_VARIANTS = ("bh1", "bh2")
_ORDERS = (1, 2, 3)


@final
class UniPC(GaussianSampler):
    """A multistep predictor, and a corrector that costs no further call.

    UniP-p steps along the polynomial in lambda through the last p predictions of `x_0`; UniC-p
    repeats the step with the prediction at its end as one more node, and that prediction serves
    the next step. Zhao et al. (2023), UniPC, section 3, predicting data. The paper's `B(h)`
    cancels out except where a single difference is used: there its weight is `B(h)/2`.

    The solver works up to order p over its first steps. The step to s = 0 is of first order, and
    so is one from a time without signal; neither is corrected, nor is the last of a trajectory,
    whose end is not asked at. The order of long steps, and of those much longer than the ones
    before, is
    lower: see `orders`.

    Args:
        p: how many predictions the predictor uses.
        variant: `bh1` for `B(h) = -h`, `bh2` for `B(h) = expm1(-h)`; they differ
            where a single difference is used: for p = 3 in the first steps only.
        corrector: whether steps are corrected.
    """

    def __init__(
        self,
        *,
        p: Annotated[int, Ge(1), Le(3)] = 2,
        variant: Literal["bh1", "bh2"] = "bh2",
        corrector: bool = True,
    ) -> None:
        if variant not in _VARIANTS:
            raise ComponentError(f"{_NAME}: variant is bh1 or bh2, not {variant!r}")
        if p not in _ORDERS:
            raise ComponentError(f"{_NAME}: p is 1, 2 or 3, not {p!r}")
        self._p, self._variant, self._corrector = p, variant, corrector

    @property
    def order(self) -> int:
        """At most 3 with the corrector and 2 without, as the first steps are of lower order.

        Their errors are small where there is hardly any signal; p = 3 looks like order 4 there.
        """
        return min(self._p + 1, 3) if self._corrector else min(self._p, 2)

    @property
    def order_on_uneven_steps(self) -> int:
        """The same: steps know how long the ones before were."""
        return self.order

    def solve(
        self, predict: GaussianPredictor, x: Tensor, levels: Sequence[Level], noise: Noise
    ) -> Iterator[State]:
        """One call a step; states are corrected before they are yielded."""
        single(_NAME, levels[0])
        past, prediction = History(self._p), predict(x, levels[0])
        steps = zip(pairwise(levels), orders(levels, self._p), strict=True)
        for number, ((at_t, at_s), most) in enumerate(steps, start=2):
            finite = at_t.finite and at_s.finite
            if finite:
                past.add(single(_NAME, at_t), prediction.x_0)
                past.keep(most)
            x_s = self._predicted(x, past, at_t, at_s) if finite else None
            x_s = data_step(x, prediction.x_0, at_t, at_s) if x_s is None else x_s
            ahead = None if number == len(levels) else predict(x_s, at_s)
            if self._corrector and finite and ahead is not None:
                x_s = self._corrected(x, past, ahead.x_0, at_t, at_s)
            yield State(x_s, at_s, prediction)
            if ahead is not None:
                x, prediction = x_s, ahead

    def _predicted(self, x_t: Tensor, past: History, at_t: Level, at_s: Level) -> Tensor:
        """UniP-p, p the number of predictions in `past`."""
        if len(past.values) != 2:
            return past.step(x_t, at_t, at_s)
        now, before = past.lambdas
        h = float(at_s.lambda_) - now
        return self._by_difference(x_t, past.values, h / (before - now), at_t, at_s)

    def _corrected(
        self, x_t: Tensor, past: History, ahead: Tensor, at_t: Level, at_s: Level
    ) -> Tensor:
        """UniC-p: the step again, with the prediction at its end."""
        if len(past.values) == 1:
            return self._by_difference(x_t, (past.values[0], ahead), 1.0, at_t, at_s)
        path = History(len(past.values) + 1)
        for lambda_, x_0 in zip(reversed(past.lambdas), reversed(past.values), strict=True):
            path.add(lambda_, x_0)
        path.add(float(at_s.lambda_), ahead)
        return path.step(x_t, at_t, at_s)

    def _by_difference(
        self, x_t: Tensor, values: Sequence[Tensor], per_r: float, at_t: Level, at_s: Level
    ) -> Tensor:
        """`data_step` along the first value plus `B(h) / (2 r expm1(-h))` times the difference."""
        h = float(at_s.lambda_) - float(at_t.lambda_)
        share = 0.5 * per_r * (1.0 if self._variant == "bh2" else -h / math.expm1(-h))
        return data_step(x_t, values[0] + (values[1] - values[0]) * share, at_t, at_s)
