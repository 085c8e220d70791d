"""The preconditioning of EDM."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt
from torch import Tensor

from diffkit.core.component import Config, Facts
from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import Target
from diffkit.functional.gaussian import Scales

if TYPE_CHECKING:
    from jaxtyping import Float64


class EDM(Parameterization):
    """The network's inputs and targets have variance 1 at every noise level.

    `x_0 = c_skip x + c_out F(c_in x, c_noise)` for `x = x_0 + s epsilon`, with
    `c_skip = d^2/(s^2 + d^2)`, `c_out = s d/sqrt(s^2 + d^2)`, `c_in = 1/sqrt(s^2 + d^2)` and
    `c_noise = log(s)/4`: Karras et al. (2022), eq. 7 and table 1. Here for every curve, with
    `s = sigma/alpha`: with `n = sqrt(sigma^2 + d^2 alpha^2)` the network predicts
    `F = sigma/(d n) x_0 - d alpha/n epsilon`, whose determinant `alpha B - sigma A = -n/d` is never
    zero.

    Args:
        sigma_data: d, the standard deviation of the data.
    """

    def __init__(self, *, sigma_data: Annotated[float, Gt(0)] = 0.5) -> None:
        self._data = sigma_data

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Some signal at t = 1: `c_noise` is infinite without."""
        if facts.get("schedule.zero_terminal_snr"):
            yield (
                "edm tells the network the logarithm of the noise over the signal, which is "
                "infinite where no signal is left, and the schedule has zero terminal SNR; use "
                "the parameterization 'velocity' or 'flow', or another schedule"
            )

    def target(self, scales: Scales) -> Target:
        """`A = sigma/(d n)`, `B = -d alpha/n`."""
        n = self._size(scales)
        return Target(scales.sigma / (self._data * n), -self._data * scales.alpha / n)

    def c_in(self, scales: Scales) -> Float64[Tensor, "..."]:
        """`1 / n`, the inverse of the standard deviation of `x_t`."""
        return 1.0 / self._size(scales)

    def c_noise(
        self, t: Float64[Tensor, "..."], log_snr: Float64[Tensor, "..."]
    ) -> Float64[Tensor, "..."]:
        """`log(sigma/alpha) / 4`, which is `-l / 8`."""
        return -0.125 * log_snr

    def _size(self, scales: Scales) -> Tensor:
        return (scales.sigma.square() + (self._data * scales.alpha).square()).sqrt()
