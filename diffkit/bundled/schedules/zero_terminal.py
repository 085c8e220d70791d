"""Any schedule, moved so that no signal is left at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from diffkit.core.schedule import DiscreteSchedule, NoiseSchedule
from diffkit.errors import ComponentError
from diffkit.functional.betas import zero_terminal_betas

if TYPE_CHECKING:
    from jaxtyping import Float64

_STEPS = 1000


class ZeroTerminal(DiscreteSchedule):
    """Another schedule, with `sqrt(alpha_bar)` moved to 0 at t = 1 and kept at the first step, if
    that is not the last.

    Lin et al. (2024), "Common diffusion noise schedules and sample steps are flawed", Algorithm 1:
    a schedule that leaves a little signal at its end trains a network that is never shown pure
    noise, and is then asked to begin with it. What predicts epsilon cannot be asked there; take
    `velocity`, as they do.

    Args:
        schedule: the one that is moved; without parameters, as it is read once.
        steps: T, of a continuous schedule; 1000 where None. Of a discrete one it is its own.

    Raises:
        ComponentError: the schedule has another number of steps, or parameters.
    """

    def __init__(
        self,
        *,
        schedule: NoiseSchedule,
        steps: Annotated[int, Ge(2), Le(1_000_000)] | None = None,
    ) -> None:
        own = schedule.steps
        if steps is not None and own not in (None, steps):
            raise ComponentError(
                f"zero-terminal: steps = {steps}, and the schedule has {own}; leave steps out"
            )
        if isinstance(schedule, torch.nn.Module):
            raise ComponentError(
                "zero-terminal: a schedule with parameters cannot be moved, as it changes in "
                "training; choose one without"
            )
        count = steps or own or _STEPS
        grid = torch.arange(1, count + 1, dtype=torch.float64) / count
        self._betas = zero_terminal_betas(torch.sigmoid(schedule.log_snr(grid)))

    @property
    def betas(self) -> Float64[Tensor, " steps"]:
        """`beta_k`, k = 1..T; the last is 1."""
        return self._betas
