"""Samplers of Gaussian processes, written over noise levels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, final

from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import ForwardProcess, GaussianProcess, Level
from diffkit.core.sampler import Sampler, State
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError


@final
class GaussianPredictor:
    """A denoiser of a Gaussian process, whose predictions are Gaussian.

    Args:
        name: of who asks, for errors.
        denoiser: what is asked.

    Raises:
        ComponentError: the process is not Gaussian; when called, the prediction is not.
    """

    def __init__(self, name: str, denoiser: Denoiser) -> None:
        process = denoiser.process
        if not isinstance(process, GaussianProcess):
            raise ComponentError(
                f"{name}: it samples from Gaussian processes, and {type(process).__name__} is not "
                "one; use a sampler that calls process.reverse only, such as 'diffkit.ancestral'"
            )
        self.name = name
        self.process = process
        self._denoiser = denoiser

    def __call__(self, x_t: Tensor, t: Time) -> GaussianPrediction:
        """The prediction at `x_t` and `t`, which may be a `Level`."""
        prediction = self._denoiser(x_t, t)
        if not isinstance(prediction, GaussianPrediction):
            raise ComponentError(f"{self.name}: the denoiser gives no Gaussian prediction")
        return prediction


class GaussianSampler(Sampler):
    """A sampler of Gaussian processes, as a generator over the noise levels of its times.

    The levels are computed in one pass; each is its time, and knows `alpha`, `sigma`, `log_snr`
    and `lambda_`.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess
    """Any Gaussian one."""

    def trajectory(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Sequence[float],
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[State]:
        """What `solve` yields."""
        predict = GaussianPredictor(type(self).__name__, denoiser)
        return self.solve(predict, x, predict.process.levels(times), noise)

    @abstractmethod
    def solve(
        self, predict: GaussianPredictor, x: Tensor, levels: Sequence[Level], noise: Noise
    ) -> Iterator[State]:
        """Yield each state from `levels[1]` to `levels[-1]`, starting from `x` at `levels[0]`."""


class GaussianStepSampler(GaussianSampler):
    """A Gaussian sampler whose step needs nothing but the prediction at the state it starts from.

    A new deterministic solver is its formula: DDIM without noise is
    `s.alpha * prediction.x_0 + s.sigma * prediction.epsilon`.
    """

    def solve(
        self, predict: GaussianPredictor, x: Tensor, levels: Sequence[Level], noise: Noise
    ) -> Iterator[State]:
        """Take `step` between each pair of neighbouring levels."""
        for t, s in pairwise(levels):
            prediction = predict(x, t)
            x = self.step(prediction, t, s, noise)
            yield State(x, s, prediction)

    @abstractmethod
    def step(self, prediction: GaussianPrediction, t: Level, s: Level, noise: Noise) -> Tensor:
        """`x_s` for `s < t`; the prediction was made at `prediction.x_t`, which is not written."""
