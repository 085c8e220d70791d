"""Predicting the direction from data to noise."""

from __future__ import annotations

import torch

from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import Target
from diffkit.functional.gaussian import Scales


class Flow(Parameterization):
    """The network predicts `epsilon - x_0`, the velocity of the straight line between them.

    Liu et al. (2023), "Flow straight and fast", eq. 1; Lipman et al. (2023), eq. 23. The
    determinant `alpha B - sigma A` is `alpha + sigma`, so that it is well defined at every noise
    level of every process, zero terminal SNR included.
    """

    def target(self, scales: Scales) -> Target:
        """`A = -1`, `B = 1`."""
        one = torch.ones_like(scales.alpha)
        return Target(-one, one)
