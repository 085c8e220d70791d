"""Parameterization: what a network is asked to predict."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from diffkit.core.component import Component
from diffkit.core.prediction import Target
from diffkit.functional.gaussian import Scales

if TYPE_CHECKING:
    from jaxtyping import Float64

TIME_SCALE = 1000.0
"""Networks are given `1000 t`, which for T = 1000 is DDPM's index k."""


class Parameterization(Component):
    """Two functions of the noise level: `output = A x_0 + B epsilon`, and the network's inputs.

    Because it is affine, every prediction converts to every other in one place
    (`GaussianPrediction`), and no sampler or loss branches on what is predicted.
    """

    kind: ClassVar[str] = "parameterization"

    @abstractmethod
    def target(self, scales: Scales) -> Target:
        """`A` and `B` at the given `alpha` and `sigma`."""

    def c_in(self, scales: Scales) -> Float64[Tensor, "..."]:
        """What multiplies `x_t` before the network sees it."""
        return torch.ones_like(scales.alpha)

    def c_noise(
        self, t: Float64[Tensor, "..."], log_snr: Float64[Tensor, "..."]
    ) -> Float64[Tensor, "..."]:
        """The noise level as the network is given it. Karras et al. (2022), eq. 7."""
        return TIME_SCALE * t
