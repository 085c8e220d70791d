"""Trajectories with exact denoisers, and what comes out of them without statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.core.denoiser import DataRange, Denoiser, Times, WrappedDenoiser
from diffkit.core.model import Condition
from diffkit.core.noise import Noise, SampleNoise
from diffkit.core.prediction import GaussianPrediction, Prediction, Target
from diffkit.core.process import GaussianProcess
from diffkit.core.sampler import Sampler, State
from diffkit.core.schedule import Time
from diffkit.testing.laws import NotApplicable, require
from diffkit.testing.oracles import ExactMixture

if TYPE_CHECKING:
    from jaxtyping import Float64

MEANS = ((1.2, 0.0), (-0.8, 0.9), (-0.4, -1.1))
VARIANCES = (0.10, 0.20, 0.15)
WEIGHTS = (0.5, 0.3, 0.2)


def even(steps: int, start: float, end: float) -> tuple[float, ...]:
    """`steps + 1` evenly spaced times."""
    return (*(start + (end - start) * i / steps for i in range(steps)), end)


def final_sample(
    sampler: Sampler, denoiser: Denoiser, x: Tensor, times: Sequence[float], noise: Noise
) -> Tensor:
    """Where the trajectory ends."""
    for state in states_of(sampler, denoiser, x, times, noise):
        x = state.x
    return x


def states_of(
    sampler: Sampler, denoiser: Denoiser, x: Tensor, times: Sequence[float], noise: Noise
) -> Iterator[State]:
    """What the trajectory yields, one by one. Raises LawBroken where that is no State."""
    for state in sampler.trajectory(denoiser, x, times, noise, {}):
        require(
            isinstance(state, State),
            "what the trajectory yields",
            measured=type(state).__name__,
            expected="State",
            why="step must return a State(x, t, prediction), and trajectory must yield them",
        )
        yield state


def noise_for(seed: int, count: int, dtype: torch.dtype = torch.float64) -> SampleNoise:
    """A sample's own noise for `count` samples."""
    return SampleNoise(seed=seed, indices=range(count), dtype=dtype)


class RecordingDenoiser(WrappedDenoiser):
    """Another denoiser, with a record of when it was asked."""

    def __init__(self, denoiser: Denoiser, data_range: DataRange | None = None) -> None:
        super().__init__(denoiser)
        self._range = data_range
        self.asked: list[Time] = []

    @property
    def data_range(self) -> DataRange | None:
        """The one it was given."""
        return self._range

    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        """The other one started, with the same record."""
        started = RecordingDenoiser(self.wrapped.start(inputs), self._range)
        started.asked = self.asked
        return started

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> Prediction:
        """The other's prediction."""
        self.asked.append(t)
        return self.wrapped(x_t, t, given=given, times=times)


class Supplied(Sampler):
    """A sampler with inputs, as one that has them."""

    def __init__(self, *, sampler: Sampler, given: Mapping[str, Tensor]) -> None:
        self._sampler, self._given = sampler, dict(given)

    def calls(self, times: Sequence[float]) -> int | None:
        """The sampler's."""
        return self._sampler.calls(times)

    def trajectory(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Sequence[float],
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[State]:
        """The sampler's trajectory with what it was given, one row a sample. Raises LawBroken."""
        rows = {k: v.to(x.dtype).expand(len(x), *v.shape[1:]) for k, v in self._given.items()}
        before = {name: row.clone() for name, row in rows.items()}
        for state in self._sampler.trajectory(denoiser, x, times, noise, rows):
            yield state
            changed = [name for name in rows if not torch.equal(rows[name], before[name])]
            require(
                not changed,
                "the inputs after a step",
                measured=f"{', '.join(changed)} changed",
                expected="as they were given",
                why="inputs are the caller's",
            )


class ConstantDenoiser(Denoiser):
    """Predicts the same x_0 whatever it sees."""

    def __init__(
        self, process: GaussianProcess, x_0: float, data_range: DataRange | None = None
    ) -> None:
        self._process, self._x_0, self._range = process, x_0, data_range

    @property
    def process(self) -> GaussianProcess:
        """The one it was given."""
        return self._process

    @property
    def data_range(self) -> DataRange | None:
        """The one it was given."""
        return self._range

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> GaussianPrediction:
        """`x_0` everywhere."""
        scales = self._process.scales(self._process.log_snr(t))
        one = torch.ones_like(scales.alpha)
        output = torch.full_like(x_t, self._x_0)
        return GaussianPrediction(output, x_t, Target(one, torch.zeros_like(one)), scales)


class Probe(Noise):
    """Draw number k is 1 in row k + 2 and 0 elsewhere."""

    def __init__(self) -> None:
        self.drawn = 0

    def normal(self, shape: Sequence[int]) -> Tensor:
        """The unit vector of this draw."""
        numbers = torch.zeros(tuple(shape), dtype=torch.float64)
        if self.drawn + 2 < shape[0]:
            numbers[self.drawn + 2] = 1.0
        self.drawn += 1
        return numbers

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Nothing: what is random otherwise has no exact moments here."""
        raise NotApplicable("it draws uniform numbers, so its moments cannot be had exactly")


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of one coordinate."""

    mean: float
    deviation: float


def exact_moments(process: GaussianProcess, t: float, mean: float, variance: float) -> Moments:
    """Of x_t, for data N(mean, variance)."""
    alpha, sigma = (float(c) for c in process.scales(process.log_snr(t)))
    return Moments(alpha * mean, (alpha**2 * variance + sigma**2) ** 0.5)


def moments_of_trajectory(
    sampler: Sampler,
    denoiser: Denoiser,
    times: Sequence[float],
    start: Moments,
    shape: tuple[int, ...] = (1,),
) -> Moments:
    """Of the trajectory's end, exactly, when it begins at the exact distribution of `x_{times[0]}`,
    of which the moments are given.

    For Gaussian data the exact denoiser is affine, so most samplers' trajectories are affine in
    where they begin and in each of their draws: probing them one by one gives the moments.

    Raises:
        NotApplicable: the trajectory is not affine.
    """
    count = Probe()
    final_sample(sampler, denoiser, torch.zeros(1, *shape, dtype=torch.float64), times, count)
    draws = count.drawn
    x = torch.zeros(2 + draws, *shape, dtype=torch.float64)
    x[1] = 1.0
    end = final_sample(sampler, denoiser, x, times, Probe()).flatten(1)
    offset, slope, gains = end[0, 0], end[1, 0] - end[0, 0], end[2:, 0] - end[0, 0]
    if not torch.allclose(end, end[:, :1], rtol=1e-9, atol=1e-9):
        raise NotApplicable("it treats coordinates otherwise that are alike in all of the data")
    _require_affine(sampler, denoiser, times, (offset, slope, gains), shape)
    spread = (slope * start.deviation).square() + gains.square().sum()
    return Moments(float(offset + slope * start.mean), float(spread.sqrt()))


class _Given(Noise):
    def __init__(self, numbers: Tensor) -> None:
        self._numbers, self._used = numbers, 0

    def normal(self, shape: Sequence[int]) -> Tensor:
        """The next of the given numbers."""
        self._used += 1
        return self._numbers[self._used - 1].expand(tuple(shape))

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Not to be had."""
        raise NotApplicable("it draws uniform numbers, so its moments cannot be had exactly")


def _require_affine(
    sampler: Sampler,
    denoiser: Denoiser,
    times: Sequence[float],
    found: tuple[Tensor, Tensor, Tensor],
    shape: tuple[int, ...],
) -> None:
    offset, slope, gains = found
    numbers = torch.sin(1.0 + torch.arange(gains.numel(), dtype=torch.float64))
    x = torch.full((1, *shape), 1.7, dtype=torch.float64)
    end = final_sample(sampler, denoiser, x, times, _Given(numbers)).flatten()[0]
    expected = offset + 1.7 * slope + (gains * numbers).sum()
    if not bool((end - expected).abs() <= 1e-8 * (1 + expected.abs())):
        raise NotApplicable("its trajectories are not affine in the noise, for Gaussian data")


def mixture(process: GaussianProcess) -> ExactMixture:
    """The exact denoiser of the kit's mixture in the plane."""
    return ExactMixture(process, MEANS, VARIANCES, WEIGHTS)


def flow_start(process: GaussianProcess, t: float) -> Float64[Tensor, "b d"]:
    """Sixteen points spread over the marginal at a noisy time t, always the same."""
    generator = torch.Generator().manual_seed(16)
    epsilon = torch.randn(16, 2, generator=generator, dtype=torch.float64)
    x_0 = torch.tensor(MEANS, dtype=torch.float64)[torch.arange(16) % 3]
    return process.diffuse(x_0, t, epsilon)


def flow_end(process: GaussianProcess, start: float, end: float) -> Float64[Tensor, "b d"]:
    """Where the exact probability flow carries `flow_start`, for the mixture.

    In `y = x / alpha` over `u = log(sigma / alpha)` the flow is `dy/du = exp(u) epsilon`
    (Karras et al., 2022, eq. 4, with sigma there ours over alpha). Classical Runge-Kutta, 1,000
    steps, which leaves errors below 1e-9 on the kit's problems.
    """
    return _flow_end(process, start, end)


@cache
def _flow_end(process: GaussianProcess, start: float, end: float) -> Tensor:
    denoiser = mixture(process)
    u_start, u_end = (float(-process.log_snr(t) / 2) for t in (start, end))
    step = (u_end - u_start) / 1000
    y = flow_start(process, start) / process.scales(process.log_snr(start)).alpha

    def slope(y: Tensor, u: float) -> Tensor:
        log_snr = torch.tensor(-2.0 * u, dtype=torch.float64)
        t = float(process.schedule.time_at(log_snr))
        prediction = denoiser(y * process.scales(log_snr).alpha, t)
        return prediction.epsilon * torch.tensor(u, dtype=torch.float64).exp()

    for index in range(1000):
        y = _classical(slope, y, u_start + index * step, step)
    return y * process.scales(process.log_snr(end)).alpha


def _classical(
    slope: Callable[[Tensor, float], Tensor], y: Tensor, u: float, step: float
) -> Tensor:
    first = slope(y, u)
    second = slope(y + step / 2 * first, u + step / 2)
    third = slope(y + step / 2 * second, u + step / 2)
    fourth = slope(y + step * third, u + step)
    return y + step / 6 * (first + 2 * second + 2 * third + fourth)
