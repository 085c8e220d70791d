"""ForwardProcess: what noise does to data."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn

from diffkit.core.component import Component
from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction, Prediction, Target
from diffkit.core.schedule import NoiseSchedule, Time
from diffkit.functional import gaussian
from diffkit.functional.coefficients import Number, as_float, axpby, broadcast_right
from diffkit.functional.gaussian import Affine, Scales

if TYPE_CHECKING:
    from jaxtyping import Float, Float64


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

    def draw(self, shape: Sequence[int], noise: Noise) -> Tensor:
        """The random numbers that `diffuse` turns into a draw from `q(x_t | x_0)`."""
        return noise.normal(shape)

    @abstractmethod
    def diffuse(self, x_0: Tensor, t: Time, epsilon: Tensor) -> Tensor:
        """A draw from `q(x_t | x_0)`, made from `epsilon`, which `draw` gave."""

    @abstractmethod
    def prior(self, shape: Sequence[int], noise: Noise) -> Tensor:
        """A draw from the distribution of `x_1`."""

    @abstractmethod
    def interpret(self, output: Tensor, x_t: Tensor, t: Time) -> Prediction:
        """What a network's output at `x_t` and `t` says about the data."""

    @abstractmethod
    def reverse(
        self, prediction: Prediction, x_t: Tensor, t: float, s: float, noise: Noise
    ) -> Tensor:
        """A draw from the model's `p(x_s | x_t)`, `s < t`. At `s = 0` no noise is added."""


@final
@dataclass(frozen=True, eq=False)
class Level:
    """The noise level at one time of a trajectory: numbers, or float64 tensors over coordinates."""

    t: float
    log_snr: Number
    """Infinite at t = 0 and at zero terminal SNR."""
    alpha: Number
    sigma: Number

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


@dataclass(frozen=True)
class _Memo:
    """What a trajectory asks for at host times, which the next trajectory over them asks for
    again.
    """

    levels: dict[float, Level] = field(default_factory=dict)
    steps: dict[tuple[float, float], tuple[Number, Number]] = field(default_factory=dict)
    deviations: dict[tuple[float, float, float | None], Number] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.levels) + len(self.steps) + len(self.deviations)

    def __deepcopy__(self, memo: object) -> _Memo:
        return _Memo()


_REMEMBERED = 10_000
"""Entries; an adaptive solver asks at ever new times."""


def has_parameters(part: object) -> bool:
    """Whether a component holds anything that training changes."""
    return isinstance(part, nn.Module) and any(True for _ in part.parameters())


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

    def level(self, t: float) -> Level:
        """The noise level at a host time; where nothing is learned, it is computed once."""
        memo = self._memo
        found = None if memo is None else memo.levels.get(t)
        if found is None:
            log_snr = self.log_snr(t)
            found = Level(t, as_float(log_snr), *(as_float(c) for c in self.scales(log_snr)))
            if memo is not None:
                memo.levels[t] = found
        return found

    def diffuse(
        self, x_0: Float[Tensor, "b *data"], t: Time, epsilon: Float[Tensor, "b *data"]
    ) -> Float[Tensor, "b *data"]:
        """`x_t = alpha_t x_0 + sigma_t epsilon`. Ho et al. (2020), eq. 4."""
        alpha, sigma = self.scales(self.log_snr(t))
        return axpby(alpha, x_0, sigma, epsilon)

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
        ends = self._ends(t, s)
        smallest = gaussian.posterior(*ends).variance.log()
        fraction = prediction.variance_fraction
        if fraction is None or (not isinstance(fraction, Tensor) and fraction == 0.0):
            return smallest
        largest = gaussian.largest_variance(*ends).log()
        if not isinstance(fraction, Tensor):
            return torch.lerp(smallest, largest, fraction)
        like = prediction.x_t
        return broadcast_right(smallest, like) + fraction * broadcast_right(
            largest - smallest, like
        )

    def interpret(
        self,
        output: Float[Tensor, "b *data"],
        x_t: Float[Tensor, "b *data"],
        t: Time,
        target: Target | None = None,
    ) -> GaussianPrediction:
        """The output as a prediction; without a `target` it is a prediction of epsilon."""
        scales = self.scales(self.log_snr(t))
        if target is None:
            target = Target(torch.zeros_like(scales.alpha), torch.ones_like(scales.alpha))
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
        on_x_0, on_x_t = self._step_back(t, s)
        if isinstance(prediction, GaussianPrediction) and prediction.x_t is x_t:
            return prediction.affine(on_x_0, on_x_t)
        return axpby(on_x_0, prediction.x_0, on_x_t, x_t)

    def _step_back(self, t: float, s: float) -> tuple[Number, Number]:
        """The mean of `posterior`; where nothing is learned, it is computed once."""
        memo = self._memo
        found = None if memo is None else memo.steps.get((t, s))
        if found is None:
            step = gaussian.posterior(*self._ends(t, s))
            found = as_float(step.on_x_0), as_float(step.on_x_t)
            if memo is not None:
                memo.steps[t, s] = found
        return found

    def _deviation(self, prediction: GaussianPrediction, t: float, s: float) -> Number:
        """The root of the variance of `p(x_s | x_t)`, likewise."""
        memo, fraction = self._memo, prediction.variance_fraction
        if memo is None or isinstance(fraction, Tensor):
            return torch.exp(0.5 * self.log_variance(prediction, t, s))
        found = memo.deviations.get((t, s, fraction))
        if found is None:
            found = as_float(torch.exp(0.5 * self.log_variance(prediction, t, s)))
            memo.deviations[t, s, fraction] = found
        return found

    @property
    def _memo(self) -> _Memo | None:
        """None where a parameter can change what would be remembered."""
        memo: _Memo | None
        try:
            memo = self.__dict__["_diffkit_memo"]
        except KeyError:
            learned = has_parameters(self) or has_parameters(self.schedule)
            memo = self.__dict__["_diffkit_memo"] = None if learned else _Memo()
        if memo is not None and len(memo) > _REMEMBERED:
            memo = self.__dict__["_diffkit_memo"] = _Memo()
        return memo

    def _ends(self, t: Time, s: Time) -> tuple[Tensor, Tensor, Scales, Scales]:
        log_snr_t, log_snr_s = self.log_snr(t), self.log_snr(s)
        return log_snr_t, log_snr_s, self.scales(log_snr_t), self.scales(log_snr_s)

    @staticmethod
    def _mean_and_variance(step: Affine, x_0: Tensor, x_t: Tensor) -> Gaussian:
        mean = axpby(step.on_x_0, x_0, step.on_x_t, x_t)
        return Gaussian(mean, _spread(step.variance, x_t))


def _spread(variance: Tensor, like: Tensor) -> Tensor:
    shaped = broadcast_right(variance, like)
    assert isinstance(shaped, Tensor)
    return shaped
