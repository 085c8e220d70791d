"""The straight line from data to noise."""

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


class RectifiedFlow(GaussianProcess):
    """`x_t = alpha x_0 + sigma epsilon` with `alpha + sigma = 1`.

    `alpha = sigmoid(l / 2)` and `sigma = sigmoid(-l / 2)` at log-SNR l; with the schedule
    `rectified`, sigma is t. Liu et al. (2023), "Flow straight and fast", eq. 1; Lipman et al.
    (2023), eq. 22. The prior is `N(0, sigma_1^2)`, the standard normal one with `rectified`.

    Args:
        schedule: the log-SNR over time; the pipeline supplies its own.
    """

    def __init__(self, *, schedule: NoiseSchedule) -> None:
        self._schedule = schedule

    @property
    def schedule(self) -> NoiseSchedule:
        """The log-SNR over time."""
        return self._schedule

    @property
    def prior_deviation(self) -> Float64[Tensor, ""]:
        """`sigma_1`."""
        return self.scales(self.log_snr(1.0)).sigma

    def scales(self, log_snr: Float64[Tensor, "..."]) -> Scales:
        """`sigmoid(l / 2)` and `sigmoid(-l / 2)`."""
        return Scales(torch.sigmoid(0.5 * log_snr), torch.sigmoid(-0.5 * log_snr))

    def prior(
        self, shape: Sequence[int], noise: Noise, condition: Condition = NO_CONDITION
    ) -> Float[Tensor, "b *data"]:
        """`N(0, sigma_1^2)`."""
        return float(self.prior_deviation.detach()) * noise.normal(shape)
