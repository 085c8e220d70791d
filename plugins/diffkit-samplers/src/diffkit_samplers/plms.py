"""Pseudo linear multistep."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import final

from torch import Tensor

from diffkit.core.gaussian_sampler import GaussianPredictor, GaussianSampler
from diffkit.core.noise import Noise
from diffkit.core.process import Level
from diffkit.core.sampler import State
from diffkit_samplers._history import needs_extra_call
from diffkit_samplers._levels import data_step, noise_correction, weighted
from diffkit_samplers.heun import heun_step

_ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@final
class PLMS(GaussianSampler):
    """A DDIM step along `epsilon' = (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3) / 24`.

    `e_j` is the noise predicted j steps before. Liu et al. (2022), PNDM, eq. 9 and 12. The first
    step with a finite log-SNR at both ends is Heun's, with one more call (the paper's pseudo
    improved Euler; a trajectory of fewer than two such steps does without); the second and third
    use the Adams-Bashforth rules of two and three values. The step to s = 0 and one from a time
    without signal are of first order.

    The coefficients take steps to be even. As DDIM's step weighs the noise unevenly within a
    step, the whole is of order 2, not 4; and like Heun's its steps must not change
    `sigma / alpha` by a large factor where there is hardly any signal.
    """

    @property
    def order(self) -> int:
        """2."""
        return 2

    def calls(self, times: Sequence[float]) -> int:
        """One a step, and one more where the first is Heun's."""
        return len(times) - 1 + needs_extra_call(times)

    def solve(
        self, predict: GaussianPredictor, x: Tensor, levels: Sequence[Level], noise: Noise
    ) -> Iterator[State]:
        """The history is the noise predicted at the last four times."""
        past: deque[Tensor] = deque(maxlen=len(_ADAMS_BASHFORTH))
        to_raise = needs_extra_call(levels)
        for at_t, at_s in pairwise(levels):
            prediction = predict(x, at_t)
            finite = at_t.finite and at_s.finite
            if finite:
                past.appendleft(prediction.epsilon)
            if finite and to_raise:
                x, to_raise = heun_step(predict, prediction, x, at_t, at_s), False
            else:
                x_s = data_step(x, prediction.x_0, at_t, at_s)
                x = x_s if not finite else noise_correction(x_s, _change(past), at_t, at_s)
            yield State(x, at_s, prediction)


def _change(past: Sequence[Tensor]) -> Tensor:
    """`epsilon' - e_0`."""
    first, *others = _ADAMS_BASHFORTH[len(past) - 1]
    return weighted(past, [first - 1.0, *others])
