"""ForwardProcess: what noise does to data."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor

from diffkit.core.component import Component
from diffkit.core.model import Condition
from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction, Prediction, Target
from diffkit.core.schedule import NoiseSchedule, Time
from diffkit.functional import gaussian
from diffkit.functional.coefficients import (
    Number,
    as_float,
    axpby,
    broadcast_right,
    exp,
    full_like,
    log,
)
from diffkit.functional.gaussian import Affine, Scales

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

NO_CONDITION: Condition = MappingProxyType({})
"""What a sample without conditions is conditioned on."""


class ForwardProcess(Component):
    """A Markov process from data at t = 0 to a known prior at t = 1.

    Nothing here is Gaussian: a masking process over tokens fits as well. What is Gaussian is in
    `GaussianProcess`.
    """

    kind: ClassVar[str] = "process"

    @property
    @abstractmethod
    def schedule(self) -> NoiseSchedule:
        """How much noise there is at each time."""

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of a dataset's conditions that `draw` and `prior` read, as a bridge reads the
        picture that it starts from.
        """
        return ()

    @property
    def prior_takes(self) -> tuple[str, ...]:
        """Those of them that have to be given in sampling, which `prior` reads: all, unless
        overridden.
        """
        return self.takes

    def draw(self, x_0: Tensor, noise: Noise, condition: Condition = NO_CONDITION) -> Any:
        """What `diffuse` makes a draw from `q(x_t | x_0)` of: standard normal numbers, unless
        overridden.

        Whatever it is, a tensor or a record of some, nobody but `diffuse` reads it. `condition`
        has those that the process takes, as the dataset gave them, one row a sample.
        """
        return noise.normal(x_0.shape)

    @abstractmethod
    def diffuse(self, x_0: Tensor, t: Time, drawn: Any) -> Tensor:
        """A draw from `q(x_t | x_0)`, made of what `draw` gave. At t = 0 it is `x_0`."""

    @abstractmethod
    def prior(
        self, shape: Sequence[int], noise: Noise, condition: Condition = NO_CONDITION
    ) -> Tensor:
        """A draw from the distribution of `x_1`, for samples of these conditions."""

    @abstractmethod
    def interpret(self, output: Tensor, x_t: Tensor, t: Time) -> Prediction:
        """What a network's output at `x_t` and `t` says about the data."""

    @abstractmethod
    def reverse(
        self, prediction: Prediction, x_t: Tensor, t: float, s: float, noise: Noise
    ) -> Tensor:
        """A draw from the model's `p(x_s | x_t)`, `s < t`. At `s = 0` no noise is added."""


@final
class Level(float):
    """A host time that knows its noise level: numbers, or float64 tensors over coordinates.

    It is the time t in all arithmetic, and `GaussianProcess.level` of the process that made it
    gives it back as it is. So the coefficients of a whole trajectory are computed once, where its
    times are planned, and travel with them.
    """

    __slots__ = ("alpha", "log_snr", "process", "sigma")

    def __new__(
        cls, t: float, log_snr: Number, alpha: Number, sigma: Number, process: GaussianProcess
    ) -> Level:
        """Only `GaussianProcess.level` and `levels` make one."""
        level = super().__new__(cls, t)
        level.log_snr = log_snr
        """Infinite at t = 0 and at zero terminal SNR."""
        level.alpha, level.sigma, level.process = alpha, sigma, process
        return level

    log_snr: Number
    alpha: Number
    sigma: Number
    process: GaussianProcess

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        """A copy elsewhere is the time alone."""
        return float, (float(self),)

    @property
    def scales(self) -> Scales[Number]:
        """`alpha` and `sigma`."""
        return Scales(self.alpha, self.sigma)

    @property
    def lambda_(self) -> Number:
        """`lambda = log(alpha / sigma)`, half the log-SNR."""
        return 0.5 * self.log_snr

    @property
    def finite(self) -> bool:
        """Whether there is both signal and noise."""
        if isinstance(self.log_snr, Tensor):
            return bool(self.log_snr.isfinite().all())
        return math.isfinite(self.log_snr)


class Gaussian(NamedTuple):
    """A Gaussian with independent coordinates; the variance broadcasts against the mean."""

    mean: Float[Tensor, "b *data"]
    variance: Float[Tensor, "..."]


_Ends = tuple[Number, Number, Scales[Number], Scales[Number]]
"""The log-SNRs at t and at s, and the scales."""


class GaussianProcess(ForwardProcess):
    """`x_t = alpha_t x_0 + sigma_t epsilon`, with the log-SNR that the schedule gives.

    A subclass says which curve `(alpha, sigma)` has a given log-SNR, and what the prior is.
    Everything else follows from two log-SNRs; see `diffkit.functional.gaussian`.
    """

    @abstractmethod
    def scales(self, log_snr: Float64[Tensor, "..."]) -> Scales:
        """`alpha` and `sigma` with `log(alpha^2 / sigma^2) = log_snr`."""

    @property
    def prior_deviation(self) -> Float64[Tensor, ""]:
        """The standard deviation of the prior, a centred Gaussian: 1 unless overridden.

        On the host, with the gradient of what it depends on where a schedule is learned.
        """
        return torch.ones((), dtype=torch.float64)

    def log_snr(self, t: Time) -> Float64[Tensor, "..."]:
        """The log-SNR at `t`. It may broadcast over coordinates."""
        return self.schedule.log_snr(t)

    @property
    def has_coordinates(self) -> bool:
        """Whether coordinates may have log-SNRs of their own, which the schedule's is not."""
        return type(self).log_snr is not GaussianProcess.log_snr

    def level(self, t: float) -> Level:
        """The noise level at a host time; as it is, where it is one of this process already."""
        if isinstance(t, Level) and t.process is self:
            return t
        log_snr = self.log_snr(float(t))
        alpha, sigma = self.scales(log_snr)
        return Level(t, as_float(log_snr), as_float(alpha), as_float(sigma), self)

    def levels(self, times: Sequence[float]) -> tuple[Level, ...]:
        """The noise levels at host times, computed in one pass."""
        known = all(isinstance(t, Level) and t.process is self for t in times)
        if known or self.has_coordinates:
            return tuple(self.level(t) for t in times)
        log_snr = self.log_snr(torch.tensor([float(t) for t in times], dtype=torch.float64))
        if log_snr.requires_grad:
            return tuple(self.level(t) for t in times)
        columns = (log_snr, *self.scales(log_snr))
        rows = zip(times, *(column.tolist() for column in columns), strict=True)
        return tuple(Level(t, level, alpha, sigma, self) for t, level, alpha, sigma in rows)

    def draw(
        self,
        x_0: Float[Tensor, "b *data"],
        noise: Noise,
        condition: Condition = NO_CONDITION,
    ) -> Float[Tensor, "b *data"]:
        """`epsilon`, standard normal."""
        return noise.normal(x_0.shape)

    def diffuse(
        self, x_0: Float[Tensor, "b *data"], t: Time, drawn: Float[Tensor, "b *data"]
    ) -> Float[Tensor, "b *data"]:
        """`x_t = alpha_t x_0 + sigma_t epsilon`; `epsilon` was drawn. Ho et al. (2020), eq. 4."""
        _, (alpha, sigma) = self._at(t)
        return axpby(alpha, x_0, sigma, drawn)

    def transition(self, x_s: Float[Tensor, "b *data"], s: Time, t: Time) -> Gaussian:
        """`q(x_t | x_s)` for `s < t`. Ho et al. (2020), eq. 2, where s and t are neighbours."""
        step = gaussian.transition(*self._ends(t, s))
        return Gaussian(broadcast_right(step.on_x_t, x_s) * x_s, _spread(step.variance, x_s))

    def posterior(
        self, x_0: Float[Tensor, "b *data"], x_t: Float[Tensor, "b *data"], t: Time, s: Time
    ) -> Gaussian:
        """`q(x_s | x_t, x_0)` for `s < t`. Ho et al. (2020), eq. 6-7. `s = 0` gives `x_0`."""
        step = gaussian.posterior(*self._ends(t, s))
        return self._mean_and_variance(step, x_0, x_t)

    def log_variance(
        self, prediction: GaussianPrediction, t: Time, s: Time
    ) -> Float[Tensor, "..."]:
        """The log-variance of `p(x_s | x_t)`, `s > 0`.

        Interpolated in log space by the prediction's `variance_fraction` v (None counts as 0):
        `v log(largest) + (1 - v) log(posterior's)`. Nichol & Dhariwal (2021), eq. 15.
        """
        found = self._log_variance(prediction, self._ends(t, s))
        return torch.as_tensor(found, dtype=torch.float64) if isinstance(found, float) else found

    def _log_variance(self, prediction: GaussianPrediction, ends: _Ends) -> Number:
        smallest = log(gaussian.posterior(*ends).variance)
        fraction = prediction.variance_fraction
        if fraction is None or (not isinstance(fraction, Tensor) and fraction == 0.0):
            return smallest
        largest = log(gaussian.largest_variance(*ends))
        if not isinstance(fraction, Tensor):
            return smallest + fraction * (largest - smallest)
        like = prediction.x_t
        between = broadcast_right(largest - smallest, like)
        return broadcast_right(smallest, like) + fraction * between

    def interpret(
        self,
        output: Float[Tensor, "b *data"],
        x_t: Float[Tensor, "b *data"],
        t: Time,
        target: Target[Number] | None = None,
    ) -> GaussianPrediction:
        """The output as a prediction; without a `target` it is a prediction of epsilon."""
        _, scales = self._at(t)
        if target is None:
            target = Target(full_like(scales.alpha, 0.0), full_like(scales.alpha, 1.0))
        return GaussianPrediction(output, x_t, target, scales)

    def reverse(
        self,
        prediction: Prediction,
        x_t: Float[Tensor, "b *data"],
        t: float,
        s: float,
        noise: Noise,
    ) -> Float[Tensor, "b *data"]:
        """A draw from `q(x_s | x_t, x_0 = prediction.x_0)` with the prediction's variance.

        Ho et al. (2020), Algorithm 2, line 4, for any `s < t`.
        """
        mean = self._mean_back(prediction, x_t, t, s)
        if s == 0.0:
            return mean
        assert isinstance(prediction, GaussianPrediction)
        deviation = self._deviation(prediction, t, s)
        return axpby(1.0, mean, deviation, noise.normal(x_t.shape))

    def _mean_back(self, prediction: Prediction, x_t: Tensor, t: float, s: float) -> Tensor:
        if type(self).posterior is not GaussianProcess.posterior:
            return self.posterior(prediction.x_0, x_t, t, s).mean
        step = gaussian.posterior(*self._ends(t, s))
        if isinstance(prediction, GaussianPrediction) and prediction.x_t is x_t:
            return prediction.affine(as_float(step.on_x_0), as_float(step.on_x_t))
        return axpby(step.on_x_0, prediction.x_0, step.on_x_t, x_t)

    def _deviation(self, prediction: GaussianPrediction, t: float, s: float) -> Number:
        """The root of the variance of `p(x_s | x_t)`."""
        if type(self).log_variance is not GaussianProcess.log_variance:
            return torch.exp(0.5 * self.log_variance(prediction, t, s))
        return exp(0.5 * self._log_variance(prediction, self._ends(t, s)))

    def _at(self, t: Time) -> tuple[Number, Scales[Number]]:
        """The log-SNR and the scales: numbers at a host time, unless a gradient has to reach them
        or coordinates differ.
        """
        if not isinstance(t, Tensor):
            level = self.level(t)
            return level.log_snr, level.scales
        log_snr = self.log_snr(t)
        return log_snr, self.scales(log_snr)

    def _ends(self, t: Time, s: Time) -> _Ends:
        (log_snr_t, at_t), (log_snr_s, at_s) = self._at(t), self._at(s)
        return log_snr_t, log_snr_s, at_t, at_s

    @staticmethod
    def _mean_and_variance(step: Affine[Number], x_0: Tensor, x_t: Tensor) -> Gaussian:
        mean = axpby(step.on_x_0, x_0, step.on_x_t, x_t)
        return Gaussian(mean, _spread(step.variance, x_t))


def _spread(variance: Number, like: Tensor) -> Tensor:
    shaped = broadcast_right(variance, like)
    return shaped if isinstance(shaped, Tensor) else torch.tensor(shaped, dtype=torch.float64)
