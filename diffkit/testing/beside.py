"""Exact denoisers of samples of any shape: the kit's mixtures, with Gaussian coordinates beside."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from diffkit.core.denoiser import Denoiser, Times, WrappedDenoiser
from diffkit.core.model import Condition
from diffkit.core.prediction import GaussianPrediction, Prediction, Target
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import Time
from diffkit.testing.oracles import ExactGaussian, ExactMixture
from diffkit.testing.trajectories import exact_moments, flow_end, flow_start

MEAN, VARIANCE = 0.6, 0.25
_PLANE = 2


class Beside(Denoiser):
    """Of data whose first coordinates are a mixture, and the others independent of it, Gaussian."""

    def __init__(self, first: ExactMixture, coordinates: int) -> None:
        self._first, self._coordinates = first, coordinates
        self._rest = ExactGaussian(first.process, MEAN, VARIANCE)

    @property
    def process(self) -> GaussianProcess:
        return self._first.process

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> GaussianPrediction:
        flat = x_t.flatten(1)
        parts = (flat[:, : self._coordinates], flat[:, self._coordinates :])
        first, rest = self._first(parts[0], t), self._rest(parts[1], t)
        output = torch.cat([first.output, rest.output], dim=1).reshape(x_t.shape)
        scales = self.process.scales(self.process.log_snr(t))
        one = torch.ones_like(scales.alpha)
        return GaussianPrediction(output, x_t, Target(one, torch.zeros_like(one)), scales)


def placed(first: ExactMixture, coordinates: int, shape: tuple[int, ...]) -> Denoiser:
    """The mixture in the first coordinates of samples of this shape, which are enough for it."""
    return first if math.prod(shape) == coordinates else Beside(first, coordinates)


def start_of(process: GaussianProcess, shape: tuple[int, ...], t: float) -> Tensor:
    """Sixteen samples of this shape, spread over the marginal at a noisy time, always the same."""
    first = flow_start(process, t)
    return _joined(first, _rest(process, len(first), shape, t), shape)


def end_of(process: GaussianProcess, shape: tuple[int, ...], start: float, end: float) -> Tensor:
    """Where the exact probability flow carries them: Gaussian coordinates keep their quantile."""
    first = flow_end(process, start, end)
    return _joined(first, _rest(process, len(first), shape, end), shape)


def _rest(process: GaussianProcess, count: int, shape: tuple[int, ...], t: float) -> Tensor:
    others, moments = math.prod(shape) - _PLANE, exact_moments(process, t, MEAN, VARIANCE)
    generator = torch.Generator().manual_seed(17)
    place = torch.randn(count, max(others, 0), generator=generator, dtype=torch.float64)
    return moments.mean + moments.deviation * place


def _joined(first: Tensor, rest: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.cat([first, rest], dim=1).reshape(len(first), *shape)


class WithExtras(WrappedDenoiser):
    """A denoiser whose network gives something beside its output: of every sample the same."""

    def __init__(self, denoiser: Denoiser, extras: Mapping[str, Callable[[int], Tensor]]) -> None:
        super().__init__(denoiser)
        self._extras = extras

    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        return WithExtras(self.wrapped.start(inputs), self._extras)

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> Prediction:
        prediction = self.wrapped(x_t, t, given=given, times=times)
        return prediction.with_extras(extras_for(self._extras, x_t))


def extras_for(extras: Mapping[str, Callable[[int], Tensor]], x: Tensor) -> dict[str, Tensor]:
    """Those of an example, a row a sample, all rows alike, as nothing tells samples apart."""
    found = {name: make(1) for name, make in extras.items()}
    return {
        name: (value.to(x.dtype) if value.is_floating_point() else value).expand(
            len(x), *value.shape[1:]
        )
        for name, value in found.items()
    }
