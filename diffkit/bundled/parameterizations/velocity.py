"""Predicting the velocity."""

from __future__ import annotations

from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import Target
from diffkit.functional.gaussian import Scales


class Velocity(Parameterization):
    """The network predicts `v = alpha epsilon - sigma x_0`.

    Salimans & Ho (2022), section 4 and appendix D. Well defined at every noise level, zero
    terminal SNR included.
    """

    def target(self, scales: Scales) -> Target:
        """`A = -sigma`, `B = alpha`."""
        return Target(-scales.sigma, scales.alpha)
