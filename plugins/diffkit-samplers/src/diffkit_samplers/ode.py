"""The probability-flow ODE with adaptive steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Gt
from torch import Tensor

from diffkit.core.component import Config, Facts
from diffkit.core.denoiser import Denoiser
from diffkit.core.gaussian_sampler import GaussianPredictor
from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler, State
from diffkit_samplers._any_time import any_time
from diffkit_samplers._arguments import positive
from diffkit_samplers._flow import LONGEST, Flow, noisiest
from diffkit_samplers._integrate import Tolerance, integrate, solver_missing
from diffkit_samplers._levels import data_step

_NAME = "samplers.ode"


@final
class ODE(Sampler):
    """`du/dl = a/2 (D - a u)`, `u = x / sqrt(alpha^2 + sigma^2)`, `a^2 = sigmoid(l)`.

    Song et al. (2021), SDE, eq. 13, integrated in the log-SNR l by Dormand & Prince (1980). Every
    sample has its own step sizes and error norm, so it does not depend on its batch. The solver
    chooses where to ask: the times of the trajectory only say where states are wanted, and more of
    them cost no calls. States in between are interpolated and carry no prediction.

    A step of first order leads from the schedule's smallest time to s = 0 (from the trajectory's
    first time, where that is no later), and one out of t = 1 where no signal is left there. Where
    the trajectory is clipped, it is in the step to s = 0 alone: the ODE is that of the predictions
    as they are, and a kink would cost many steps.

    Args:
        rtol: the relative error that a step may make, of each coordinate of u; at least 1e-6 for
            a network in float32.
        atol: the absolute error, likewise.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess

    def __init__(
        self,
        *,
        rtol: Annotated[float, Gt(0)] = 1e-4,
        atol: Annotated[float, Gt(0)] = 1e-4,
    ) -> None:
        relative, absolute = positive(_NAME, "rtol", rtol), positive(_NAME, "atol", atol)
        self._tolerance = Tolerance(_NAME, relative, absolute, LONGEST)

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """The package torchode, and a model that can be asked at any time."""
        yield from solver_missing()
        yield from any_time(facts, "the solver chooses its times itself")

    def calls(self, times: Sequence[float]) -> None:
        """It depends on the samples: six for a step that the slowest of them tries."""
        return

    def query_times(self, times: Sequence[float], process: ForwardProcess) -> Sequence[float]:
        """Down to the schedule's smallest time, where the trajectory ends at s = 0."""
        return (*times[:-1], _last(times, process), times[-1])

    def trajectory(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Sequence[float],
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[State]:
        """States at `times[1:]`, of the dtype of `x`; it computes in float32 at least."""
        ask = GaussianPredictor(_NAME, denoiser)
        process, dtype = ask.process, x.dtype
        last = _last(times, process)
        first, from_l = noisiest(_NAME, process, times[0], self._tolerance.relative)
        start = x
        if first < times[0]:
            prediction = ask(x, times[0]).unclipped
            for s in [s for s in times[1:] if s >= max(first, last)]:
                yield State(_first_order(prediction, x, process, times[0], s), s, prediction)
            start = _first_order(prediction, x, process, times[0], first)
        at = times[0]
        if first > last:
            wanted = [s for s in times[1:] if last <= s < first]
            inside = wanted if wanted and wanted[-1] == last else [*wanted, last]
            flow = Flow(ask, first, last, dtype)
            for s, reached in zip(inside, self._solve(flow, start, from_l, inside), strict=True):
                x, at = reached.to(dtype), s
                if s in wanted:
                    yield State(x, s)
        if times[-1] == 0.0:
            prediction = ask(x, at)
            yield State(_first_order(prediction, x, process, at, 0.0), 0.0, prediction)

    def _solve(
        self, flow: Flow, x: Tensor, from_l: float, times: Sequence[float]
    ) -> Iterator[Tensor]:
        """States at these times, from x at the log-SNR `from_l`."""
        process, shape, dtype = flow.ask.process, x.shape, x.dtype
        wide = x.to(torch.promote_types(dtype, torch.float32))
        stops = [float(process.log_snr(s)) for s in times]

        def field(log_snr: Tensor, u: Tensor) -> Tensor:
            return flow.slope(log_snr, u.reshape(shape)).flatten(1)

        u = flow.inwards(wide, torch.tensor(from_l, dtype=torch.float64)).flatten(1)
        for stop, reached in zip(
            stops, integrate(field, u, from_l, stops, self._tolerance), strict=True
        ):
            at = torch.tensor(stop, dtype=torch.float64)
            yield flow.outwards(reached.reshape(shape), at)


def _last(times: Sequence[float], process: ForwardProcess) -> float:
    """Where the integration ends."""
    return times[-1] if times[-1] > 0.0 else min(process.schedule.t_min, times[-2])


def _first_order(
    prediction: GaussianPrediction, x_t: Tensor, process: GaussianProcess, t: float, s: float
) -> Tensor:
    return data_step(x_t, prediction.x_0, process.level(t), process.level(s))
