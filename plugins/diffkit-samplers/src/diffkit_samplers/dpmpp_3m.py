"""DPM-Solver++, third order, multistep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import final

from torch import Tensor

from diffkit.core.gaussian_sampler import GaussianPredictor, GaussianSampler
from diffkit.core.noise import Noise
from diffkit.core.process import Level
from diffkit.core.sampler import State
from diffkit_samplers._history import History, needs_extra_call, orders
from diffkit_samplers._levels import data_step, single

_NAME = "samplers.dpmpp-3m"


@final
class DPMpp3M(GaussianSampler):
    """A step along the parabola in lambda through the last three predictions of `x_0`.

    `x_s = (sigma_s/sigma_t) x_t + alpha_s int_0^h exp(tau - h) P(tau) dtau`. Lu et al. (2022),
    DPM-Solver++, section 4, with k = 3; the integral is taken exactly. The first step with a finite
    log-SNR at both ends asks once more, at its end, and is of second order, without which the
    whole were of order 2; a trajectory of fewer than two such steps does without. The second is of
    second order, the one to s = 0 and one from a time without signal of first order.

    The order of long steps, and of those much longer than the ones before, is lower: otherwise few
    steps amplify what is wrong in the predictions; see `orders`.
    """

    @property
    def order(self) -> int:
        """3."""
        return 3

    @property
    def order_on_uneven_steps(self) -> int:
        """The same: steps know how long the ones before were."""
        return self.order

    def calls(self, times: Sequence[float]) -> int:
        """One a step, and one more where the first is raised."""
        return len(times) - 1 + needs_extra_call(times)

    def solve(
        self, predict: GaussianPredictor, x: Tensor, levels: Sequence[Level], noise: Noise
    ) -> Iterator[State]:
        """The history is the last three predictions."""
        past, to_raise = History(3), needs_extra_call(levels)
        single(_NAME, levels[0])
        for (at_t, at_s), most in zip(pairwise(levels), orders(levels, 3), strict=True):
            prediction = predict(x, at_t)
            if not (at_t.finite and at_s.finite):
                x = data_step(x, prediction.x_0, at_t, at_s)
            else:
                past.add(single(_NAME, at_t), prediction.x_0)
                past.keep(most)
                if to_raise:
                    x, to_raise = _raised(predict, x, prediction.x_0, at_t, at_s), False
                else:
                    x = past.step(x, at_t, at_s)
            yield State(x, at_s, prediction)


def _raised(
    predict: GaussianPredictor, x_t: Tensor, x_0: Tensor, at_t: Level, at_s: Level
) -> Tensor:
    """A step of second order along the line through the predictions at both its ends."""
    path = History(2)
    path.add(single(_NAME, at_s), predict(data_step(x_t, x_0, at_t, at_s), at_s).x_0)
    path.add(single(_NAME, at_t), x_0)
    return path.step(x_t, at_t, at_s)
