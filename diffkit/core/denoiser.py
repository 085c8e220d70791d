"""Denoiser: what a sampler or a loss asks, whatever stands behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diffkit.core.model import Condition, Network
from diffkit.core.parameterization import TIME_SCALE, Parameterization
from diffkit.core.prediction import GaussianPrediction, Prediction, Target
from diffkit.core.process import ForwardProcess, GaussianProcess, has_parameters
from diffkit.core.schedule import Time, as_time
from diffkit.errors import ComponentError
from diffkit.functional.gaussian import Scales
from diffkit.functional.scalars import Number, expand, plain

if TYPE_CHECKING:
    from jaxtyping import Float

DataRange = tuple[float, float]


class Denoiser(ABC):
    """Predicts the data behind a noisy sample of the process it exposes.

    Guidance wraps a denoiser into a denoiser. State that lives for one walk only is made by
    `start` and nowhere else.
    """

    @property
    @abstractmethod
    def process(self) -> ForwardProcess:
        """The process whose noisy samples this denoiser takes."""

    @property
    def data_range(self) -> DataRange | None:
        """The smallest and largest value that data can have, where that is declared."""
        return None

    @abstractmethod
    def __call__(self, x_t: Tensor, t: Time) -> Prediction:
        """The prediction at `x_t`; `t` is a host number, or a host tensor `[b]`."""

    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        """The denoiser for one walk."""
        return self


class ModelDenoiser(Denoiser):
    """A network seen through its own process, which need not be Gaussian."""

    def __init__(
        self,
        model: Network,
        process: ForwardProcess,
        *,
        condition: Condition | None = None,
        data_range: DataRange | None = None,
    ) -> None:
        self._model = model
        self._process = process
        self._condition = dict(condition or {})
        self._data_range = data_range

    @property
    def process(self) -> ForwardProcess:
        return self._process

    @property
    def data_range(self) -> DataRange | None:
        return self._data_range

    def __call__(self, x_t: Tensor, t: Time) -> Prediction:
        output = self._model(x_t, per_sample(TIME_SCALE * as_time(t), x_t), self._condition)
        return self._process.interpret(output, x_t, t)


class Asking(NamedTuple):
    """How a network is asked at one time."""

    c_in: Number
    c_noise: Number
    target: Target
    walked: Scales


class GaussianDenoiser(Denoiser):
    """A network trained under one Gaussian process, asked about samples of another.

    At walked time t with log-SNR l it finds the trained time u with the same l, and asks the
    network at `c_in alpha_trained(l)/alpha_walked(l) x_t` and `c_noise(u, l)`. The rescaled
    sample is exactly a sample of the trained process, since equal l means equal `x_0` and
    `epsilon`, so nothing is approximated.

    With `learned_variance` the second half of the output's channels, -1 to 1, becomes the
    prediction's `variance_fraction`, 0 to 1. Nichol & Dhariwal (2021), eq. 15.
    """

    def __init__(
        self,
        model: Network,
        parameterization: Parameterization,
        trained: GaussianProcess,
        walked: GaussianProcess | None = None,
        *,
        condition: Condition | None = None,
        data_range: DataRange | None = None,
        memo: dict[float, Asking] | None = None,
        learned_variance: bool = False,
    ) -> None:
        self._network = model
        self._learned_variance = learned_variance
        self._parameterization = parameterization
        self._trained = trained
        self._walked = trained if walked is None else walked
        self._memo = {} if memo is None else memo
        parts = (parameterization, trained, self._walked, trained.schedule, self._walked.schedule)
        self._fixed = not any(has_parameters(part) for part in parts)
        self._condition = dict(condition or {})
        self._data_range = data_range

    @property
    def process(self) -> GaussianProcess:
        return self._walked

    @property
    def data_range(self) -> DataRange | None:
        return self._data_range

    def __call__(self, x_t: Float[Tensor, "b *data"], t: Time) -> GaussianPrediction:
        asking = self._asking(t)
        inside = scaled(asking.c_in, x_t)
        output = self._network(inside, per_sample(asking.c_noise, x_t), self._condition)
        output, fraction = output.to(x_t.dtype), None
        if self._learned_variance:
            output, placed = output.chunk(2, dim=1)
            fraction = 0.5 * (placed + 1.0)
        return GaussianPrediction(output, x_t, asking.target, asking.walked, fraction)

    def _asking(self, t: Time) -> Asking:
        """Remembered at host times, unless a parameter can change it."""
        if isinstance(t, Tensor) or not self._fixed:
            return self._asked_at(t)
        found = self._memo.get(t)
        if found is None:
            found = self._memo[t] = self._asked_at(t)
        return found

    def _asked_at(self, t: Time) -> Asking:
        log_snr = self._walked.log_snr(t)
        trained = self._trained.scales(log_snr)
        walked = self._walked.scales(log_snr)
        c_in = self._parameterization.c_in(trained)
        if self._walked is not self._trained:
            # Equal l makes both ratios equal; take the one whose terms are not vanishing.
            by_alpha, by_sigma = trained.alpha / walked.alpha, trained.sigma / walked.sigma
            c_in = c_in * torch.where(log_snr > 0, by_alpha, by_sigma)
        c_noise = self._parameterization.c_noise(self._trained_time(t, log_snr), log_snr)
        target = self._parameterization.target(trained)
        return Asking(plain(c_in), plain(c_noise), target, walked)

    def check_range(self, times: Sequence[float], grid: int | None = None) -> None:
        """Raise ComponentError where a walk over these times leaves the trained noise levels.

        `grid` is the T of a network that can be asked at multiples of 1/T only.
        """
        for t in times:
            if t == 0.0:
                continue
            u = self._trained_time(t, self._walked.log_snr(t))
            if grid is not None and float((u * grid - (u * grid).round()).abs().max()) > 1e-3:
                raise ComponentError(
                    f"the walked process at t = {t:.6g} has the noise level of the trained time "
                    f"{float(u):.6g}, and the model can be asked only at multiples of 1/{grid}; "
                    "walk the schedule that it was trained with"
                )

    def _trained_time(self, t: Time, log_snr: Tensor) -> Tensor:
        if self._walked is self._trained:
            return as_time(t)
        schedule = self._trained.schedule
        try:
            u = schedule.time_at(log_snr)
        except ComponentError as error:
            raise ComponentError(f"{_unseen(t)}: {error}") from error
        # Half a per mille covers grids that agree but for rounding.
        if bool((u < 0.9995 * schedule.t_min).any()):
            raise ComponentError(
                f"{_unseen(t)}: it has less noise than the smallest trained time, "
                f"{schedule.t_min:.6g} (log-SNR {schedule.log_snr(schedule.t_min).item():.6g})"
            )
        return u


def scaled(c_in: Number, x_t: Tensor) -> Tensor:
    """`c_in x_t`, or `x_t` itself where the one coefficient is exactly 1."""
    if isinstance(c_in, float) and c_in == 1.0:
        return x_t
    return (expand(c_in, x_t) * x_t).to(x_t.dtype)


def per_sample(value: Number, x_t: Float[Tensor, "b *data"]) -> Float[Tensor, " b"]:
    """A host value as float32 on the device of `x_t`, one a sample."""
    if isinstance(value, float) or value.ndim == 0:
        return torch.full((x_t.shape[0],), float(value), device=x_t.device)
    return value.to(device=x_t.device, dtype=torch.float32, non_blocking=True)


def _unseen(t: Time) -> str:
    where = "at these times" if isinstance(t, Tensor) and t.ndim else f"at t = {float(t):.6g}"
    return (
        f"the walked process {where} has a noise level that the network was never trained at; "
        "walk a schedule whose log-SNR stays within the trained one's"
    )
