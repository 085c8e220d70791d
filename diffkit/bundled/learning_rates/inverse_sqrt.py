"""A learning rate that falls with the root of the number of updates."""

from __future__ import annotations

import math
from typing import Annotated

from annotated_types import Gt

from diffkit.core.learning_rate import LearningRate


class InverseSqrt(LearningRate):
    """`rate / sqrt(max(n / decay_steps, 1))` at update n. Karras et al. (2024), EDM2, eq. 67.

    It does not depend on how many updates there are in all.

    Args:
        rate: the largest, of the first `decay_steps` updates.
        decay_steps: from where on it falls. The paper takes 35,000 to 70,000.
    """

    def __init__(
        self,
        *,
        rate: Annotated[float, Gt(0)] = 1e-2,
        decay_steps: Annotated[int, Gt(0)] = 70_000,
    ) -> None:
        self._rate, self._decay_steps = rate, decay_steps

    def rate(self, step: int, steps: int) -> float:
        """At most `rate`."""
        return self._rate / math.sqrt(max(step / self._decay_steps, 1.0))
