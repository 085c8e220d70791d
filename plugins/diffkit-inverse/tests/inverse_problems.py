"""Correlated Gaussian data, of which every conditional distribution is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.noise import Noise, SampleNoise
from diffkit.core.sampler import Sampler
from diffkit.testing.oracles import ExactGaussian

SHAPE = (1, 2, 2)
MEAN = torch.tensor([0.3, -0.2, 0.1, 0.4], dtype=torch.float64)
PLACES = torch.arange(4, dtype=torch.float64)
COVARIANCE = 0.25 * 0.8 ** (PLACES[:, None] - PLACES).abs()
UNKNOWN = torch.tensor([2, 3])
KNOWN = torch.tensor([0, 1])
IMAGE = torch.tensor([0.8, 0.1, 9.0, -9.0], dtype=torch.float64).reshape(1, *SHAPE)
MASK = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64).reshape(1, *SHAPE)
PAINTING = {"image": IMAGE, "mask": MASK}
SMALL = torch.tensor([0.5], dtype=torch.float64).reshape(1, 1, 1, 1)


@dataclass(frozen=True)
class Moments:
    mean: Tensor
    covariance: Tensor

    def apart(self, exact: Moments) -> tuple[float, float]:
        """Of the mean, in deviations of `exact`; of the covariance, relative to it."""
        deviation = exact.covariance.trace().sqrt()
        mean = (self.mean - exact.mean).norm() / deviation
        covariance = (self.covariance - exact.covariance).norm() / exact.covariance.norm()
        return float(mean), float(covariance)


def conditional(matrix: Tensor, seen: Tensor) -> Moments:
    """Of x ~ N(MEAN, COVARIANCE), given `matrix x = seen`. Bishop (2006), eq. 2.81 and 2.82."""
    gain = COVARIANCE @ matrix.T @ torch.linalg.inv(matrix @ COVARIANCE @ matrix.T)
    mean = MEAN + gain @ (seen - matrix @ MEAN)
    return Moments(mean, COVARIANCE - gain @ matrix @ COVARIANCE)


def painted() -> Moments:
    """Of the unknown coordinates, given the known ones."""
    whole = conditional(torch.eye(4, dtype=torch.float64)[KNOWN], IMAGE.flatten()[KNOWN])
    return Moments(whole.mean[UNKNOWN], whole.covariance[UNKNOWN][:, UNKNOWN])


def enlarged() -> Moments:
    """Of all coordinates, given their mean."""
    return conditional(torch.full((1, 4), 0.25, dtype=torch.float64), SMALL.flatten())


def denoiser(process_class=VariancePreserving, schedule=None) -> ExactGaussian:
    return ExactGaussian(process_class(schedule=schedule or Cosine()), MEAN, COVARIANCE)


def times_of(exact: ExactGaussian, steps: int) -> tuple[float, ...]:
    return tuple(Trailing().times(steps, exact.process.schedule))


class Units(Noise):
    """Row 0 is 0; each of the others is 1 in one coordinate of one draw."""

    def __init__(self) -> None:
        self.drawn = 0

    def normal(self, shape):
        numbers = torch.zeros(shape[0], 4, dtype=torch.float64)
        first = 1 + 4 * (self.drawn + 1)
        if first < shape[0]:
            numbers[first : first + 4] = torch.eye(4, dtype=torch.float64)
        self.drawn += 1
        return numbers.reshape(tuple(shape))

    def uniform(self, shape):
        raise AssertionError("no sampler here draws uniform numbers")


def end_of(sampler: Sampler, exact, x, times, noise, inputs) -> Tensor:
    with torch.no_grad():
        for state in sampler.trajectory(exact, x, times, noise, inputs):
            x = state.x
    return x


def exact_moments(sampler: Sampler, exact: ExactGaussian, steps: int, inputs) -> Moments:
    """Of the end of a trajectory that is affine in its noise, without chance."""
    times, counting = times_of(exact, steps), Units()
    end_of(sampler, exact, torch.zeros(1, *SHAPE, dtype=torch.float64), times, counting, inputs)
    x = torch.zeros(1 + 4 * (counting.drawn + 1), 4, dtype=torch.float64)
    x[1:5] = exact.process.prior_deviation * torch.eye(4, dtype=torch.float64)
    end = end_of(sampler, exact, x.reshape(-1, *SHAPE), times, Units(), inputs).flatten(1)
    gains = end[1:] - end[0]
    return Moments(end[0], gains.T @ gains)


def drawn(sampler: Sampler, exact: ExactGaussian, steps: int, inputs, count: int, seed=0) -> Tensor:
    """Ends of trajectories, `[count, 4]`."""
    noise = SampleNoise(seed=seed, indices=range(count), dtype=torch.float64)
    x = exact.process.prior((count, *SHAPE), noise)
    return end_of(sampler, exact, x, times_of(exact, steps), noise, inputs).flatten(1)


def sample_moments(ends: Tensor) -> Moments:
    return Moments(ends.mean(0), ends.T.cov())


def of_unknown(moments: Moments) -> Moments:
    return Moments(moments.mean[UNKNOWN], moments.covariance[UNKNOWN][:, UNKNOWN])
