"""Sampler: from noise back to data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from diffkit.core.component import Component
from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.prediction import Prediction
from diffkit.core.process import ForwardProcess


@dataclass(frozen=True, eq=False)
class State:
    """Where a trajectory stands: `x` at time `t`, and the prediction that led here, if any.

    A state is never written again after it is yielded.
    """

    x: Tensor
    t: float
    prediction: Prediction | None = None


class Sampler(Component):
    """A trajectory as a generator function. It owns the loop: adaptive steps, history kept in local
    variables, correctors and trajectories that climb back up in time all fit.

    The consumer wraps each `next()` in `no_grad`; a sampler that needs gradients through the
    denoiser enables them itself, never around a `yield`.
    """

    kind: ClassVar[str] = "sampler"
    process_class: ClassVar[type[ForwardProcess]] = ForwardProcess
    """The class of process that it samples from."""
    inputs: ClassVar[tuple[str, ...]] = ()
    """The names of the tensors it needs beside the noise: an image, a mask."""
    gives: ClassVar[tuple[str, ...]] = ()
    """The names of the tensors and second times that it tells the network with a question."""
    extras: ClassVar[tuple[str, ...]] = ()
    """The names of the extras that it needs of the network's predictions."""

    @property
    def order(self) -> int | None:
        """p, where the error of a trajectory of S even steps in log-SNR falls like `S^-p`.

        Of a sampler that draws noise, the error of the mean and the variance. None declares
        nothing: for one without a step size, or without a limit to converge to.
        """
        return None

    @property
    def order_on_uneven_steps(self) -> int | None:
        """p, where that holds for neighbouring steps of different lengths too.

        None declares nothing: coefficients may take steps to be even. It matters for solvers that
        use earlier steps.
        """
        return None

    @property
    def group(self) -> int:
        """How many samples, one after another, a trajectory looks at together, as particles that
        are resampled among themselves: 1, each by itself, unless overridden.

        What is asked for, every batch and every process's share are whole groups.
        """
        return 1

    def calls(self, times: Sequence[float]) -> int | None:
        """How often a trajectory over these times asks the denoiser: once a step, unless
        overridden.

        None where that depends on the samples, as with adaptive steps.
        """
        return len(times) - 1

    def query_times(self, times: Sequence[float], process: ForwardProcess) -> Sequence[float]:
        """The times between which a trajectory over `times` queries the denoiser: these, unless
        overridden.

        They are checked before anything is computed: that the network was trained there.
        """
        return times

    @abstractmethod
    def trajectory(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Sequence[float],
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[State]:
        """Yield each state from `times[1]` to `times[-1]`, starting from `x` at `times[0]`."""


class StepSampler(Sampler):
    """A sampler whose step from `t` to `s` needs nothing but the state at `t`."""

    def trajectory(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Sequence[float],
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[State]:
        """Take `step` between each pair of neighbouring times."""
        for t, s in pairwise(times):
            state = self.step(denoiser, x, t, s, noise)
            yield state
            x = state.x

    @abstractmethod
    def step(self, denoiser: Denoiser, x_t: Tensor, t: float, s: float, noise: Noise) -> State:
        """The state at `s < t`, reached from `x_t`, which must not be written to."""
