"""Even spacing that ends at the first noise level; for parity with other libraries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from diffkit.core.component import Config, Facts
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.spacing import Spacing
from diffkit.errors import ComponentError


class Leading(Spacing):
    """`k_j = 1 + j floor(T/S)`, j = S-1..0, and then 0, on the grid of a discrete schedule.

    The spacing of DDIM's first code and the default of other libraries. **Its flaw**: unless
    S = T it never visits t = 1. The trajectory starts from pure noise at a time where the network
    expects some signal, so low frequencies (an image's brightness) come out wrong; Lin et al.
    (2024), section 3.3. Use `trailing` except to reproduce others' samples.
    """

    starts_at_one: ClassVar[bool] = False

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """A discrete schedule."""
        if facts.get("schedule.steps") is None:
            yield "the spacing 'leading' is defined on a discrete schedule only; use 'trailing'"

    def times(self, steps: int, schedule: NoiseSchedule) -> tuple[float, ...]:
        """`steps + 1` times. Raises ComponentError unless 1 <= steps <= T."""
        grid = schedule.steps
        if grid is None:
            raise ComponentError("leading: the schedule is continuous; use the spacing 'trailing'")
        if not 1 <= steps <= grid:
            raise ComponentError(
                f"leading: steps must be at least 1 and at most {grid}, the schedule's number of "
                f"steps, not {steps}"
            )
        stride = grid // steps
        return (*((1 + j * stride) / grid for j in reversed(range(steps))), 0.0)
