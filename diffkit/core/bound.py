"""The terms of the variational bound, for any Gaussian process and any chain of times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.core.component import Facts
from diffkit.core.prediction import GaussianPrediction, Target
from diffkit.core.process import GaussianProcess
from diffkit.errors import ComponentError
from diffkit.functional import gaussian
from diffkit.functional.coefficients import as_tensor, broadcast_right
from diffkit.functional.gaussian import Scales
from diffkit.functional.likelihood import (
    discretized_gaussian_log_probability,
    gaussian_log_density,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

NATS_PER_BIT = math.log(2.0)
CONTINUOUS_STEPS = 1000
"""T, where neither the schedule nor anybody else says."""


@dataclass(frozen=True)
class Bound:
    """`-log p(x_0) <= L_T + sum_{k=2}^T L_{k-1} + L_0`, Ho et al. (2020), eq. 5, on a chain of T
    even steps; each term is a mean over the coordinates of a sample, in bits.

    Args:
        process: the forward process.
        steps: T, at least 2.
        levels: how many values data has between the ends of its range, for `L_0`; None takes the
            density of the Gaussian instead.
        data_range: that range.

    A prediction that says no variance has the smallest of each step, and the largest where data
    have no levels. Broad beside the noise, they leave an error of `1/SNR_t`, and with
    `r = SNR_s/SNR_t` a term is `(r - 1)/2` with the smallest and `log(r)/2` with the largest,
    whose sum is the entropy. Where log-SNR is unbounded at t = 0, r is about `(k/(k-1))^2` at the
    first k however large T is, so that the smallest keep a gap of their own.
    """

    process: GaussianProcess
    steps: int
    levels: int | None
    data_range: tuple[float, float] | None

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ComponentError(f"the bound needs a chain of 2 steps at least, not {self.steps}")
        if self.levels is not None and self.data_range is None:
            raise ComponentError(
                "the bound of data with levels needs their range; set data.range, or levels to "
                "null for data that are not discrete"
            )

    def on_chain(self, t: Float64[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """The times of the chain nearest above; those of the chain stay where they are."""
        return (t * self.steps - 1e-9).ceil().clamp(1, self.steps) / self.steps

    def prior(self, x_0: Float[Tensor, "b *data"]) -> Float[Tensor, " b"]:
        """`L_T = KL(q(x_1 | x_0) | p(x_1))`."""
        scales = self.process.scales(self.process.log_snr(1.0))
        deviation = self.process.prior_deviation
        signal = broadcast_right((scales.alpha / deviation).square(), x_0) * x_0.square()
        log_ratio = 2.0 * torch.log(scales.sigma / deviation)
        rest = broadcast_right(torch.expm1(log_ratio) - log_ratio, x_0)
        return _bits(0.5 * (signal + rest))

    def term(
        self,
        x_0: Float[Tensor, "b *data"],
        prediction: GaussianPrediction,
        t: Float64[Tensor, " b"],
    ) -> Float[Tensor, " b"]:
        """`L_{k-1}` where `t = k / T`, k > 1, and `L_0` where `t = 1 / T`."""
        first = t < 1.5 / self.steps
        # Times are on the host, so that choosing rows waits for no device.
        rows = torch.arange(len(t))
        found = x_0.new_zeros(len(t))
        for chosen, measure in ((rows[~first], self._divergence), (rows[first], self._decoder)):
            if len(chosen):
                where = chosen.to(x_0.device, non_blocking=True)
                part = _rows_of(prediction, where, chosen)
                found = found.index_copy(0, where, measure(x_0[where], part, t[chosen]))
        return found

    def _fraction(self, prediction: GaussianPrediction) -> Tensor | float:
        """Where the variance of a step lies between the smallest, 0, and the largest, 1."""
        found = prediction.variance_fraction
        return float(self.levels is None) if found is None else found

    def _divergence(self, x_0: Tensor, prediction: GaussianPrediction, t: Tensor) -> Tensor:
        """`KL(q(x_s | x_t, x_0) | p(x_s | x_t))`, `s = t - 1/T`.

        With the posterior's variance times `e^d`: `(d + e^-d - 1 + e^-d (SNR_s - SNR_t)
        (x_0 - x_0_hat)^2) / 2`; d = 0 gives Kingma et al. (2021), eq. 13.
        """
        process = self.process
        log_snr_t, log_snr_s = process.log_snr(t), process.log_snr(t - 1.0 / self.steps)
        snr = torch.exp(log_snr_s) * gaussian.noise_added(log_snr_t, log_snr_s)
        error = broadcast_right(snr, x_0) * (x_0 - prediction.x_0).square()
        fraction = self._fraction(prediction)
        if isinstance(fraction, float) and fraction == 0.0:
            return _bits(0.5 * error)
        ends = (log_snr_t, log_snr_s, process.scales(log_snr_t), process.scales(log_snr_s))
        smallest = gaussian.posterior(*ends).variance
        widening = (gaussian.largest_variance(*ends) / smallest).log()
        d = torch.as_tensor(fraction * broadcast_right(widening, x_0), dtype=x_0.dtype)
        return _bits(0.5 * (d + torch.expm1(-d) + torch.exp(-d) * error))

    def _decoder(self, x_0: Tensor, prediction: GaussianPrediction, t: Tensor) -> Tensor:
        """`-log p(x_0 | x_t)` at `t = 1/T`: a Gaussian about the predicted x_0.

        Its variance is the largest of that step; in the place of the smallest, which is 0, that of
        the finest noise level, `sigma^2/alpha^2`, with which the bound tends to the entropy as the
        steps become shorter (Kingma et al., 2021, section 3.3). A variance that is learned lies
        between the smallest of the step before and the largest (Nichol & Dhariwal, 2021, their
        code).
        """
        process, one = self.process, 1.0 / self.steps
        log_snr = process.log_snr(torch.tensor([one, 2.0 * one], dtype=torch.float64))
        scales = process.scales(log_snr)
        at_1, at_2 = (gaussian.Scales(*(c[i : i + 1] for c in scales)) for i in range(2))
        log_snr_1, log_snr_2 = log_snr[:1], log_snr[1:]
        clean = process.log_snr(0.0)
        largest = gaussian.largest_variance(log_snr_1, clean, at_1, process.scales(clean)).log()
        fraction = self._fraction(prediction)
        if isinstance(fraction, Tensor):
            smallest = gaussian.posterior(log_snr_2, log_snr_1, at_2, at_1).variance.log()
        else:
            smallest = -log_snr_1
        log_variance = broadcast_right(smallest, x_0) + fraction * broadcast_right(
            largest - smallest, x_0
        )
        log_variance = torch.as_tensor(log_variance, dtype=x_0.dtype, device=x_0.device)
        if self.levels is None or self.data_range is None:
            return _bits(-gaussian_log_density(x_0, prediction.x_0, log_variance))
        low, high = self.data_range
        return _bits(
            -discretized_gaussian_log_probability(
                x_0, prediction.x_0, log_variance, low, high, self.levels
            )
        )


def chain_problems(steps: int | None, facts: Facts) -> Iterator[str]:
    """What is wrong with the length of a bound's chain under a schedule; for `requires`."""
    grid = facts.get("schedule.steps")
    if grid is not None:
        if steps not in (None, grid):
            yield (
                f"steps is {steps}, and the schedule has {grid}, the chain that the bound is of; "
                "leave steps out, or change the schedule's"
            )
        return
    wanted, smallest = steps or CONTINUOUS_STEPS, facts.get("schedule.t_min")
    # Ten digits: 1 / (1 / t_min) may round to just below t_min.
    if smallest is not None and wanted * smallest > 1.0 + 1e-10:
        yield (
            f"a chain of {wanted} steps begins at t = {1.0 / wanted:.6g}, below the schedule's "
            f"smallest time, {smallest:.6g}, where no network is trained; set steps to "
            f"{int(1.0 / smallest + 1e-9)} at most"
        )


def _bits(nats: Tensor) -> Float[Tensor, " b"]:
    return nats.flatten(1).mean(1) / NATS_PER_BIT


def _rows_of(prediction: GaussianPrediction, where: Tensor, chosen: Tensor) -> GaussianPrediction:
    """The prediction for some samples; its coefficients are on the host, one a sample."""
    fraction = prediction.variance_fraction
    target, scales = prediction.target, prediction.scales
    return GaussianPrediction(
        prediction.output[where],
        prediction.x_t[where],
        Target(*(as_tensor(c)[chosen] for c in target)),
        Scales(*(as_tensor(c)[chosen] for c in scales)),
        fraction[where] if isinstance(fraction, Tensor) else fraction,
    )
