"""What the laws of losses are measured on: data of one point, and a network that knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from diffkit.assembly.facts import schedule_facts
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.denoiser import Declared
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.loss import Batch, Loss, LossContext, LossRecord
from diffkit.core.model import Condition, EpsilonModel, Output
from diffkit.core.noise import SampleNoise
from diffkit.core.parameterization import TIME_SCALE, Parameterization
from diffkit.core.process import GaussianProcess
from diffkit.core.times import DrawnTimes
from diffkit.functional.coefficients import broadcast_right
from diffkit.testing.beside import extras_for
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require
from diffkit.testing.networks import config_of
from diffkit.testing.oracles import ExactGaussian, OracleModel
from diffkit.testing.processes import curves_for, own_process, without_signal
from diffkit.testing.usages.record import rows_of

_RANGE = (-1.0, 1.0)
ROWS = 6
"""Samples of a trial."""


@dataclass
class Trial:
    """A batch of one point at known times, noise, and a network that is as wrong as one likes."""

    subject: ComponentUnderTest
    process: GaussianProcess
    parameterization: Parameterization
    t: Tensor
    weight: Tensor = field(init=False)
    knowing: float = 1.0
    """The share of the exact answer in the network's; the rest is what it was shown."""
    spread: Tensor | None = None
    """What the network says of the variance where it predicts one, -1 to 1; None: 0, half-way."""
    seed: int = field(init=False)
    first: int = 0
    """The index of the first sample."""
    asked: list[Tensor] = field(init=False, default_factory=list)
    """The noise in what the network was shown, by call."""

    def __post_init__(self) -> None:
        self.weight = torch.ones(self.count, dtype=torch.float64)
        self.seed = self.subject.seed_for("noise")

    def __str__(self) -> str:
        return f"with {type(self.process).__name__} and {type(self.parameterization).__name__}"

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.t)

    @property
    def point(self) -> Tensor:
        """The data, on the inner ones of an 8-bit image's 256 levels.

        A decoder of levels is smallest in the middle of a level: off it, or at the two outer
        levels, which reach to infinity, the exact answer would not be its best.
        """
        generator = self.subject.generator("point")
        shape = self.subject.fixtures.shape
        low, high = _RANGE
        levels = torch.randint(1, 255, shape, generator=generator, dtype=torch.float64)
        return low + (high - low) * levels / 255.0

    def only(self, row: int) -> Trial:
        """This sample of it, with its own time and noise."""
        return Trial(
            self.subject,
            self.process,
            self.parameterization,
            self.t[[row]],
            knowing=self.knowing,
            first=self.first + row,
        )

    def direction(self, subject: ComponentUnderTest, number: int) -> Tensor:
        """A random error of the network, about 1 a coordinate."""
        generator = subject.generator(f"direction {number}")
        shape = (self.count, *subject.fixtures.shape)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def _times(self, count: int) -> DrawnTimes:
        """The same at each call, as in training."""
        return DrawnTimes(*(rows_of(whole, count) for whole in (self.t, self.weight)))

    def _uniform(self) -> Callable[[int], Tensor]:
        """Numbers of each sample's own, other ones at each call."""
        rows = range(self.first, self.first + self.count)
        noise = SampleNoise(seed=self.seed + 1, indices=rows, dtype=torch.float64)
        return lambda count: rows_of(noise.uniform((self.count, 1))[:, 0], count)

    def loss_of(self, loss: Loss, error: Tensor | None = None) -> LossRecord:
        """The loss of a network with this error in its output."""
        self.subject.require_extras(loss.extras)
        if isinstance(loss, nn.Module):
            loss.double()
        exact = ExactGaussian(self.process, self.point.flatten(), 0.0)
        oracle = OracleModel(denoiser=exact, parameterization=self.parameterization)
        network = _Wrong(trial=self, oracle=oracle, error=error, extras=loss.extras)
        rows = range(self.first, self.first + self.count)
        context = LossContext(
            denoiser=GaussianDenoiser(
                network,
                self.parameterization,
                self.process,
                data_range=_RANGE,
                learned_variance=needs_variance(self.subject),
                declared=Declared(given=loss.gives, times=loss.gives),
            ),
            process=self.process,
            noise=SampleNoise(seed=self.seed, indices=rows, dtype=torch.float64),
            draw_times=self._times,
            draw_uniform=self._uniform(),
            step=0,
            average=exact,
        )
        self.asked.clear()
        record = loss(Batch(self.point.expand(self.count, *self.point.shape).clone()), context)
        require(
            isinstance(record, LossRecord) and record.values.shape == (self.count,),
            f"the shape of values for {self.count} samples, {self}",
            measured=tuple(getattr(getattr(record, "values", None), "shape", ())),
            expected=(self.count,),
            why="the trainer reduces them; it weighs and logs by time",
        )
        return record


class _Wrong(EpsilonModel):
    """The exact network with an error added; it notes what noise it is shown."""

    def __init__(
        self,
        *,
        trial: Trial,
        oracle: OracleModel,
        error: Tensor | None,
        extras: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._trial, self._oracle, self._error = trial, oracle, error
        self._extras = {name: trial.subject.fixtures.extras[name] for name in extras}

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor | Output:
        trial = self._trial
        t = c_noise.double() / TIME_SCALE
        alpha, sigma = (
            broadcast_right(c, x) for c in trial.process.scales(trial.process.log_snr(t))
        )
        trial.asked.append((x.detach() - alpha * trial.point) / sigma)
        exact = cast(Tensor, self._oracle(x, c_noise, condition))
        output = torch.lerp(x, exact, trial.knowing)
        output = output if self._error is None else output + _often(self._error, output)
        if needs_variance(trial.subject):
            # Half-way between the smallest and the largest variance, if nothing else is said.
            spread = torch.zeros_like(output)
            spread = spread if trial.spread is None else _often(trial.spread, output)
            output = torch.cat([output, spread], dim=1)
        return Output(output, extras_for(self._extras, x)) if self._extras else output


def _often(value: Tensor, output: Tensor) -> Tensor:
    """What is said of each sample, as often as a question has them: at several times, together."""
    times, left = divmod(len(output), len(value))
    require(
        left == 0,
        "the rows of a question to the network",
        measured=len(output),
        expected=f"{len(value)}, one for each sample, or all of them several times over",
    )
    return value.repeat(times, *[1] * (value.ndim - 1)) if times > 1 else value


def trials(subject: ComponentUnderTest) -> Iterator[Trial]:
    """Each process with each parameterization, at times from end to end."""
    for process in processes(subject):
        schedule = process.schedule
        t = schedule.snap(torch.linspace(schedule.t_min, 1.0, ROWS, dtype=torch.float64))
        for parameterization in parameterizations(process):
            yield Trial(subject, process, parameterization, t)


def made(subject: ComponentUnderTest) -> Loss:
    """The loss. Raises NotApplicable where the process or the network here is not for it."""
    loss: Loss = subject.make()
    problems = _problems(subject, needs_variance(subject))
    if problems:
        raise NotApplicable("; ".join(problems))
    return loss


def needs_variance(subject: ComponentUnderTest) -> bool:
    """Whether the loss takes a model with a learned variance only."""
    return bool(_problems(subject, False)) and not _problems(subject, True)


def _problems(subject: ComponentUnderTest, learned_variance: bool) -> list[str]:
    known = {
        **schedule_facts(next(processes(subject)).schedule),
        "data.shape": subject.fixtures.shape,
        "data.range": _RANGE,
        "model.conditions": (),
        "model.learned_variance": learned_variance,
    }
    return list(subject.cls.requires(config_of(subject), known))


def processes(subject: ComponentUnderTest) -> Iterator[GaussianProcess]:
    """Those that the loss is for: the example's, or up to three curves with the same log-SNR.

    Raises NotChecked where no exact answer is known of such processes.
    """
    wanted = cast(type[Loss], subject.cls).process_class
    own = own_process(subject, wanted)
    if own is not None:
        yield own
        return
    for curve in curves_for(subject, wanted):
        yield curve(Linear())


def parameterizations(process: GaussianProcess | None = None) -> Iterator[Parameterization]:
    """Three things that a network can predict; no noise where nothing but noise is ever seen."""
    if process is None or not without_signal(process.schedule):
        yield Epsilon()
    yield Velocity()
    yield X0()
