"""Predicting the noise."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from diffkit.core.component import Config, Facts
from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import Target
from diffkit.functional.gaussian import Scales


class Epsilon(Parameterization):
    """The network predicts `epsilon`. Ho et al. (2020), section 3.2."""

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Some signal at t = 1: where alpha is 0, `x_0` cannot be recovered from epsilon."""
        if facts.get("schedule.zero_terminal_snr"):
            yield (
                "epsilon cannot be turned into x_0 where no signal is left, and the schedule has "
                "zero terminal SNR; use the parameterization 'velocity' or 'x_0'"
            )

    def target(self, scales: Scales) -> Target:
        """`A = 0`, `B = 1`."""
        return Target(torch.zeros_like(scales.alpha), torch.ones_like(scales.alpha))
