"""Even spacing that starts at t = 1."""

from __future__ import annotations

from diffkit.core.schedule import NoiseSchedule
from diffkit.core.spacing import Spacing
from diffkit.errors import ComponentError


class Trailing(Spacing):
    """`t_i = 1 - i/S`, i = 0..S; on a grid of T, `k_i = round(T - i T/S)`.

    The first time is always 1, where the prior is, and the last is 0. Lin et al. (2024),
    table 2, compare spacings under this name.
    """

    def times(self, steps: int, schedule: NoiseSchedule) -> tuple[float, ...]:
        """`steps + 1` times from 1 to 0. Raises ComponentError unless 1 <= steps <= T."""
        grid = schedule.steps
        if steps < 1 or (grid is not None and steps > grid):
            most = "" if grid is None else f" and at most {grid}, the schedule's number of steps"
            raise ComponentError(f"trailing: steps must be at least 1{most}, not {steps}")
        if grid is None:
            return (*(1.0 - i / steps for i in range(steps)), 0.0)
        return (*(round(grid - i * grid / steps) / grid for i in range(steps)), 0.0)
