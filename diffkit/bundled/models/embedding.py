"""How networks are told the noise level."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from diffkit.errors import ComponentError

if TYPE_CHECKING:
    from jaxtyping import Float


def sinusoidal(c_noise: Float[Tensor, " b"], width: int) -> Float[Tensor, "b width"]:
    """Sines, then cosines, at `width / 2` frequencies from 1 to 1/10000, evenly in the log.

    Vaswani et al. (2017), section 3.5, in the form of Ho et al. (2020)'s code.
    """
    half = width // 2
    # In this order, float32 rounds the frequencies as other libraries do. At angles up to 1000
    # another rounding is another angle, which shows when weights are exchanged.
    exponents = -math.log(10_000.0) * torch.arange(half, dtype=torch.float32, device=c_noise.device)
    angles = c_noise[:, None].float() * torch.exp(exponents / max(half - 1, 1))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class NoiseEmbedding(nn.Module):
    """Sinusoids of the noise level through two linear layers, `[b]` to `[b, 4 width]`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width)
        )

    def forward(self, c_noise: Float[Tensor, " b"]) -> Float[Tensor, "b embedding"]:
        """The embedding. Raises ComponentError for several levels a sample."""
        if c_noise.ndim != 1:
            raise ComponentError(
                f"the network is told one noise level a sample, and is asked with "
                f"{list(c_noise.shape)}; take one that is told a level for each token"
            )
        weight = cast(Tensor, self.layers[0].weight)
        waves = sinusoidal(c_noise, self.width).type_as(weight)
        embedded: Tensor = self.layers(waves)
        return embedded
