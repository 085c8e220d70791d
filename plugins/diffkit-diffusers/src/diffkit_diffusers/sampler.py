"""diffusers' schedulers as diffkit samplers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.core.component import Config, Facts
from diffkit.core.denoiser import DataRange, Denoiser
from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import ForwardProcess
from diffkit.core.sampler import Sampler, State
from diffkit.core.schedule import NoiseSchedule
from diffkit.errors import ComponentError
from torch import Tensor

from diffkit_diffusers import options as chosen
from diffkit_diffusers import schedulers

_ON_GRID = 1e-6
"""How far, in units of the grid, a time may be from it through rounding."""


class DiffusersScheduler(Sampler):
    """Samples with a scheduler of diffusers, which is given the sampling schedule and times.

    It works for variance-preserving processes on discrete schedules. The betas are passed as
    `trained_betas` and times as indices `k - 1`; diffusers keeps its tables in float32.
    Schedulers whose states are `x_t / alpha_t` are converted. Predictions are clipped as in every
    trajectory. With `options.clip_sample` or `options.thresholding` diffusers does that instead, in
    its own way (clipping, `DDIMScheduler` keeps the epsilon of the unclipped x_0), on what was
    predicted
    before: to the data's range unless `options.clip_sample_range` gives another. Where the
    schedule leaves no signal at t = 1, only `DDPMScheduler` and `DDIMScheduler` sample, with
    `feed: sample`.

    Args:
        scheduler: the name of a class of diffusers.
        options: its constructor's arguments, but for what follows from the pipeline: the betas,
            the times and the kind of prediction.
        feed: what it is given as the network's output, `epsilon` or `sample`, which is x_0.

    Raises:
        ComponentError: the scheduler, an option, the schedule or the times are not supported;
            names it.
    """

    process_class: ClassVar[type[ForwardProcess]] = VariancePreserving

    def __init__(
        self,
        *,
        scheduler: str = "DPMSolverMultistepScheduler",
        options: dict[str, Any] | None = None,
        feed: Literal["epsilon", "sample"] = "epsilon",
    ) -> None:
        self._options = dict(options or {})
        if problems := list(_problems(scheduler, self._options, feed)):
            raise ComponentError("diffusers.scheduler: " + "; ".join(problems))
        self._name, self._feed = scheduler, feed
        self._traits = schedulers.TRAITS[scheduler]
        # Values that only diffusers can judge are judged now, not when a trajectory begins.
        schedulers.check_steps(scheduler, self._options, feed)

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """A discrete schedule that ends with some signal, and options that are supported."""
        if facts.get("schedule.steps") is None:
            yield "diffusers' schedulers need a discrete schedule, and this one is continuous"
        try:
            options = config.options or {}
            problems = list(_problems(config.scheduler, options, config.feed))
            yield from problems
            if problems:
                return
            if facts.get("schedule.zero_terminal_snr"):
                yield from _without_signal(config.scheduler, config.feed)
            chosen.clipping(config.scheduler, options, facts.get("data.range"))
        except ComponentError as error:
            yield str(error)

    def calls(self, times: Sequence[float]) -> int:
        """One a step, but for Heun (two, and one for the last to 0) and PNDM (one more)."""
        steps = len(times) - 1
        if self._name == "HeunDiscreteScheduler":
            return 2 * steps - (1 if times[-1] == 0.0 else 0)
        return steps + 1 if self._name == "PNDMScheduler" and steps > 1 else steps

    def trajectory(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Sequence[float],
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[State]:
        """Yield the state at each time; those between, of a predictor, are not shown."""
        indices, grid = _indices(times, denoiser.process.schedule)
        scheduler = self.prepared(denoiser.process, denoiser.data_range, times)
        plan = _plan(scheduler, indices, len(times) - 1)
        arguments = {}
        if chosen.draws_noise(self._name, self._options):
            arguments["generator"] = sample_generators(noise, x.shape[0])
        here = self._into(scheduler, x)
        for call in plan:
            index = scheduler.timesteps[call.place]
            t = (call.index + 1) / grid
            x_t = scheduler.scale_model_input(here, index).to(x.dtype)
            prediction = denoiser(x_t, t)
            if not isinstance(prediction, GaussianPrediction):
                raise ComponentError(
                    "diffusers.scheduler: the denoiser gives no Gaussian prediction"
                )
            if chosen.limits_data(self._options):
                prediction = prediction.unclipped
            output = prediction.epsilon if self._feed == "epsilon" else prediction.x_0
            here = scheduler.step(output, index, here, return_dict=False, **arguments)[0]
            if call.reached is not None:
                x_s = self._out_of(scheduler, here, call.place + 1).to(x.dtype)
                yield State(x_s, times[call.reached], prediction)

    def prepared(
        self, process: ForwardProcess, data_range: DataRange | None, times: Sequence[float]
    ) -> Any:
        """The scheduler of diffusers for one trajectory, set to its times.

        Raises:
            ComponentError: the process, the schedule or the times are not supported.
        """
        if not isinstance(process, VariancePreserving):
            raise ComponentError(
                f"diffusers.scheduler: the process {type(process).__name__} is not supported; "
                "diffusers' schedulers sample from 'variance-preserving'"
            )
        indices, _ = _indices(times, process.schedule)
        if not bool(torch.isfinite(process.log_snr(times[0])).all()):
            for problem in _without_signal(self._name, self._feed):
                raise ComponentError(f"diffusers.scheduler: {problem}")
        options = chosen.clipping(self._name, self._options, data_range)
        betas = schedulers.betas_of(process.schedule)
        scheduler = schedulers.made(self._name, options, self._feed, betas)
        if self._name == "DDPMScheduler" and times[-1] == 0.0 and indices[-1] > 0:
            raise ComponentError(
                "diffusers.scheduler: DDPMScheduler adds noise in its last step unless the "
                "trajectory visits the first noise level, and this one goes from index "
                f"{indices[-1]} to 0; use the spacing 'leading', or the sampler 'ddpm'"
            )
        return schedulers.with_times(scheduler, indices)

    def _into(self, scheduler: Any, x: Tensor) -> Tensor:
        if not self._traits.in_sigma_space:
            return x
        return x * (1 + schedulers.sigma_at(scheduler, 0, x).square()).sqrt()

    def _out_of(self, scheduler: Any, x: Tensor, place: int) -> Tensor:
        if not self._traits.in_sigma_space:
            return x
        return x / (1 + schedulers.sigma_at(scheduler, place, x).square()).sqrt()


def sample_generators(noise: Noise, batch: int) -> list[torch.Generator]:
    """A generator for each sample, seeded from its own numbers of the noise source.

    So what diffusers draws for a sample depends on the seed and on the sample's index alone.
    They are on the host, whatever the device, and so are the numbers they give.
    """
    parts = (noise.uniform((batch, 3)).cpu().double() * 2**21).long()
    seeds = (parts[:, 0] << 42) + (parts[:, 1] << 21) + parts[:, 2]
    return [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]


@dataclass(frozen=True)
class _Call:
    """One call of the denoiser."""

    place: int
    """In the scheduler's list."""
    index: int
    reached: int | None
    """Which of the trajectory's times the step after it reaches; None where it is not final."""


def _plan(scheduler: Any, indices: Sequence[int], last: int) -> list[_Call]:
    """The calls of a trajectory to its time number `last`.

    A step is a predictor, and not yet final, where the next call is made at the time it led to
    and leads there again.
    """
    asked = [round(float(index)) for index in scheduler.timesteps]
    wanted = {index: place for place, index in enumerate(indices)}
    calls = []
    for place, index in enumerate(asked):
        after = asked[place + 1 : place + 3]
        predictor = len(after) == 2 and after[0] == after[1]
        reached = wanted[after[0]] if after else len(indices)
        calls.append(_Call(place, index, None if predictor else reached))
        if calls[-1].reached == last:
            break
    return calls


def _indices(times: Sequence[float], schedule: NoiseSchedule) -> tuple[list[int], int]:
    """The indices, from 0, of the times that are asked, and T."""
    grid = schedule.steps
    if grid is None:
        raise ComponentError(
            f"diffusers.scheduler: the schedule {type(schedule).__name__} is continuous; "
            "diffusers' schedulers need a discrete one"
        )
    asked = [t for t in times if t > 0.0]
    off = [t for t in asked if abs(t * grid - round(t * grid)) > _ON_GRID]
    if off:
        raise ComponentError(
            f"diffusers.scheduler: the time {off[0]:.6g} is not on the schedule's grid of {grid}; "
            "diffusers' schedulers go from grid time to grid time"
        )
    return [round(t * grid) - 1 for t in asked], grid


def _without_signal(scheduler: str, feed: str) -> Iterable[str]:
    """The problem of a trajectory that starts where alpha is 0."""
    if feed not in schedulers.TRAITS[scheduler].without_signal:
        able = [name for name, traits in schedulers.TRAITS.items() if traits.without_signal]
        yield (
            f"{scheduler} with feed = {feed!r} divides by 0 where no signal is left, and the "
            "schedule has zero terminal SNR; use the sampler 'samplers.dpmpp-2m', or "
            f"{' or '.join(able)} with feed = 'sample'"
        )


def _problems(scheduler: str, options: Mapping[str, Any], feed: str) -> Iterable[str]:
    yield from chosen.option_problems(scheduler, options)
    allowed = schedulers.TRAITS[scheduler].feeds
    if feed not in allowed:
        yield f"feed = {feed!r} is not supported by {scheduler}; it is {' or '.join(allowed)}"
