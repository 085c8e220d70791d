"""The variance-preserving Gaussian process of DDPM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.core.model import Condition
from diffkit.core.noise import Noise
from diffkit.core.process import NO_CONDITION, GaussianProcess
from diffkit.core.schedule import NoiseSchedule
from diffkit.functional.gaussian import Scales

if TYPE_CHECKING:
    from jaxtyping import Float, Float64


class VariancePreserving(GaussianProcess):
    """`x_t = alpha x_0 + sigma epsilon` with `alpha^2 + sigma^2 = 1`.

    `alpha^2 = sigmoid(l)` and `sigma^2 = sigmoid(-l)` at log-SNR l. Ho et al. (2020), eq. 4,
    where `alpha^2` is called alpha-bar. The prior is N(0, I).

    Args:
        schedule: the log-SNR over time; the pipeline supplies its own.
    """

    def __init__(self, *, schedule: NoiseSchedule) -> None:
        self._schedule = schedule

    @property
    def schedule(self) -> NoiseSchedule:
        """The log-SNR over time."""
        return self._schedule

    def scales(self, log_snr: Float64[Tensor, "..."]) -> Scales:
        """`sqrt(sigmoid(l))` and `sqrt(sigmoid(-l))`."""
        return Scales(torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt())

    def prior(
        self, shape: Sequence[int], noise: Noise, condition: Condition = NO_CONDITION
    ) -> Float[Tensor, "b *data"]:
        """Standard normal numbers."""
        return noise.normal(shape)
