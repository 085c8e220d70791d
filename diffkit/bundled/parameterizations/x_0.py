"""Predicting the data."""

from __future__ import annotations

import torch

from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import Target
from diffkit.functional.gaussian import Scales


class X0(Parameterization):
    """The network predicts `x_0`. Ho et al. (2020), section 3.2, as the alternative."""

    def target(self, scales: Scales) -> Target:
        """`A = 1`, `B = 0`."""
        return Target(torch.ones_like(scales.alpha), torch.zeros_like(scales.alpha))
