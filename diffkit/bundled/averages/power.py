"""Averages whose length grows with training."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Lt, MinLen

from diffkit.core.average import Average
from diffkit.errors import ComponentError
from diffkit.functional.power_average import gamma_of_length, power_decay

Length = Annotated[float, Gt(0), Lt(0.28)]


class Power(Average):
    """`average <- b average + (1 - b) weight`, `b = (1 - 1/t)^(gamma + 1)` at update t = 1, 2, ...

    So the weights of update tau count like `tau^gamma`. Karras et al. (2024), EDM2, eq. 121 to 127.
    Of two of them in a run's checkpoints, `diffkit.post_hoc` makes that of any other length.

    Args:
        lengths: one track for each, called by it: the standard deviation of that profile, as a
            share of training.
    """

    def __init__(self, *, lengths: Annotated[tuple[Length, ...], MinLen(1)] = (0.05, 0.10)) -> None:
        self._gammas = {track_name(length): gamma_of_length(length) for length in lengths}
        if len(self._gammas) < len(lengths):
            raise ComponentError(
                f"power: lengths {list(lengths)} are the same twice; leave one out"
            )

    def tracks(self) -> tuple[str, ...]:
        """As `0.05`."""
        return tuple(self._gammas)

    def decay(self, step: int, track: str) -> float:
        """Of update t = `step` + 1."""
        return power_decay(step, self._gammas[track])


def track_name(length: float) -> str:
    """As `0.05`: the shortest decimals that give this number."""
    return f"{length:.12g}"
