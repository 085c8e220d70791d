"""The variance-exploding Gaussian process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.core.component import Config, Facts
from diffkit.core.model import Condition
from diffkit.core.noise import Noise
from diffkit.core.process import NO_CONDITION, GaussianProcess
from diffkit.core.schedule import NoiseSchedule
from diffkit.functional.gaussian import Scales

if TYPE_CHECKING:
    from jaxtyping import Float, Float64


class VarianceExploding(GaussianProcess):
    """`x_t = x_0 + sigma epsilon`: the data stay, and the noise grows over them.

    `alpha = 1` and `sigma = exp(-l / 2)` at log-SNR l. Song et al. (2021), "Score-based generative
    modeling through SDEs", eq. 9; Karras et al. (2022), with the schedule `karras`. The prior is
    `N(0, sigma_1^2)`.

    Args:
        schedule: the log-SNR over time; the pipeline supplies its own.
    """

    def __init__(self, *, schedule: NoiseSchedule) -> None:
        self._schedule = schedule

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Some signal at t = 1: with none the noise is infinite."""
        if facts.get("schedule.zero_terminal_snr"):
            yield (
                "where no signal is left, variance exploding has infinite noise, and the schedule "
                "has zero terminal SNR; use the process 'variance-preserving' or 'rectified-flow', "
                "or another schedule"
            )

    @property
    def schedule(self) -> NoiseSchedule:
        """The log-SNR over time."""
        return self._schedule

    @property
    def prior_deviation(self) -> Float64[Tensor, ""]:
        """`sigma_1`."""
        return self.scales(self.log_snr(1.0)).sigma

    def scales(self, log_snr: Float64[Tensor, "..."]) -> Scales:
        """`1` and `exp(-l / 2)`."""
        return Scales(torch.ones_like(log_snr), torch.exp(-0.5 * log_snr))

    def prior(
        self, shape: Sequence[int], noise: Noise, condition: Condition = NO_CONDITION
    ) -> Float[Tensor, "b *data"]:
        """`N(0, sigma_1^2)`."""
        return float(self.prior_deviation.detach()) * noise.normal(shape)
