"""Inpainting by resampling: RePaint."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, final

from annotated_types import Ge
from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler, State
from diffkit.functional.coefficients import axpby
from diffkit_inverse._checks import count, gaussian
from diffkit_inverse._painting import canvas, painted_step

_NAME = "inverse.repaint"


@final
class RePaint(Sampler):
    """Paints the masked part of an image as `replacement`, and climbs back up in time to do again
    what it has done, so that the painted part and the known part come to agree.

    After every `jump_length` steps it climbs as many, by a draw from `q(x_t | x_s)`, and comes
    down again; `resamplings` times in all. Lugmayr et al. (2022), Algorithm 1 and section 4.2.

    Inputs: `image`, of the data's shape and range, and `mask`, 1 where to paint, which may be 1 in
    the dimension of channels.

    Args:
        jump_length: how many steps it climbs. Of 10 in the paper, with 250 steps. A trajectory of
            no more steps has no room for that: there it climbs to its first time, and warns. Of one
            step there is nothing to climb, and nothing that would have to agree.
        resamplings: how often each stretch is gone over; 1 is `replacement`.

    Raises:
        ComponentError: an argument is below 1, or an input does not fit the samples.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess
    inputs: ClassVar[tuple[str, ...]] = ("image", "mask")

    def __init__(
        self,
        *,
        jump_length: Annotated[int, Ge(1)] = 10,
        resamplings: Annotated[int, Ge(1)] = 10,
    ) -> None:
        self._jump_length = count(_NAME, "jump_length", jump_length)
        self._resamplings = count(_NAME, "resamplings", resamplings)

    def calls(self, times: Sequence[float]) -> int:
        """One for each step down, those that are gone over again too."""
        return sum(end > start for start, end in self._route(times))

    def trajectory(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Sequence[float],
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[State]:
        """Each state of the route, those after a climb too."""
        on, process = canvas(_NAME, inputs, x), gaussian(_NAME, denoiser)
        self._say_where_it_does_not_fit(len(times) - 1)
        for start, end in self._route(times):
            t, s = times[start], times[end]
            if end > start:
                state = painted_step(_NAME, denoiser, x, t, s, noise, on)
            else:
                # Here the trajectory goes from t up to s: one draw has the law of as many small
                # ones.
                up = process.transition(x, t, s)
                z = noise.normal(x.shape)
                state = State(axpby(1.0, up.mean.to(x.dtype), up.variance.sqrt(), z), s)
            yield state
            x = state.x

    def _route(self, times: Sequence[float]) -> list[tuple[int, int]]:
        steps = len(times) - 1
        return itinerary(steps, min(self._jump_length, max(steps - 1, 1)), self._resamplings)

    def _say_where_it_does_not_fit(self, steps: int) -> None:
        if 1 < steps <= self._jump_length and self._resamplings > 1:
            warnings.warn(
                f"{_NAME}: jump_length = {self._jump_length} does not fit into {steps} steps; it "
                f"climbs {steps - 1} instead: take more steps, or a smaller jump_length",
                stacklevel=3,
            )


def itinerary(steps: int, jump_length: int, resamplings: int) -> list[tuple[int, int]]:
    """The moves of a trajectory, as pairs of positions in its times, of which the last is `steps`.

    It climbs from the positions that are `1, 1 + jump_length, ...` steps short of the end, as long
    as there is room above: never from clean data, which has no noise to climb with.
    """
    left = {
        steps - short: resamplings - 1 for short in range(1, steps - jump_length + 1, jump_length)
    }
    moves, place = [], 0
    while place < steps:
        moves.append((place, place + 1))
        place += 1
        if left.get(place, 0) > 0:
            left[place] -= 1
            moves.append((place, place - jump_length))
            place -= jump_length
    return moves
