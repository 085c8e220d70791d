"""Using samplers and losses of processes that are not Gaussian."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffkit.bundled.spacings.trailing import Trailing
from diffkit.bundled.times.uniform import Uniform
from diffkit.config.signature import signature_of
from diffkit.core.component import Component
from diffkit.core.data import DataType
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import Declared, ModelDenoiser
from diffkit.core.loss import Batch, Loss, LossContext, LossRecord
from diffkit.core.metric import ModelMetric
from diffkit.core.model import Condition
from diffkit.core.noise import BatchNoise
from diffkit.core.process import ForwardProcess
from diffkit.core.sampler import Sampler, State
from diffkit.errors import ComponentError
from diffkit.testing.checks.any_process import Trial, trial_of
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotChecked, require
from diffkit.testing.processes import classes_of
from diffkit.testing.usages.record import COUNT, Usage, noise_for, rows_of, uniform_numbers

_STEPS = 4


def process_for(subject: ComponentUnderTest, kind: type[ForwardProcess]) -> ForwardProcess:
    """The fixtures' process, or one of this class where the kit can make it.

    Raises NotChecked where it cannot.
    """
    if subject.fixtures.process is not None:
        return subject.fixtures.process()
    for found in classes_of(subject, kind):
        try:
            supplied = signature_of(found, subject.host).supplied
            arguments = {name: subject.supply(source) for name, source in supplied.items()}
            made: Component = found(**arguments)
        except (ComponentError, TypeError):
            continue
        assert isinstance(made, ForwardProcess)
        return made
    raise NotChecked(
        f"it needs a process of the class {kind.__name__}; give `Example(process=...)`"
    )


def use_sampler_of(
    subject: ComponentUnderTest, sampler: Sampler, done: Usage, dtype: torch.dtype
) -> None:
    """Take a few steps: each yields a state of all samples, at the next of the times."""
    trial = trial_of(subject, process_for(subject, sampler.process_class), COUNT, dtype)
    process, noise = trial.process, noise_for(subject, dtype)
    given = {name: trial.condition[name] for name in process.prior_takes}
    x = done.give("x", process.prior(tuple(trial.x_0.shape), noise, given))
    times = Trailing().times(_STEPS, process.schedule)
    states = list(sampler.trajectory(_denoiser(trial, sampler.gives), x, times, noise, {}))
    kinds = [
        (state.t, state.x.dtype, tuple(state.x.shape))
        if isinstance(state, State)
        else type(state).__name__
        for state in states
    ]
    require(
        kinds[-1:] == [(0.0, x.dtype, tuple(x.shape))]
        and all(isinstance(k, tuple) and k[1:] == (x.dtype, tuple(x.shape)) for k in kinds),
        "the states of a trajectory",
        measured=kinds,
        expected=f"States of {x.dtype} {tuple(x.shape)}, the last at t = 0",
        why="what comes out of the last one are the samples",
    )
    done.outputs["end"] = states[-1].x


def use_loss_of(subject: ComponentUnderTest, loss: Loss, done: Usage, dtype: torch.dtype) -> None:
    """Compute it for a batch: one value and one time for each sample."""
    trial = trial_of(subject, process_for(subject, loss.process_class), COUNT, dtype)
    uniform = torch.linspace(0.05, 0.95, COUNT, dtype=torch.float64)
    noise = BatchNoise(
        seed=subject.seed_for("exercise"), step=0, rows=range(COUNT), total=COUNT, dtype=dtype
    )
    context = LossContext(
        denoiser=_denoiser(trial, loss.gives),
        process=trial.process,
        noise=noise,
        draw_times=lambda count: Uniform().draw(rows_of(uniform, count), trial.process.schedule),
        step=10,
        draw_uniform=uniform_numbers(uniform.flip(0)),
    )
    done.give("x_0", trial.x_0)
    record = loss(Batch(trial.x_0, trial.condition, trial.condition), context)
    shapes = (
        (tuple(record.values.shape), tuple(record.t.shape))
        if isinstance(record, LossRecord)
        else type(record).__name__
    )
    require(
        shapes == ((COUNT,), (COUNT,)) and bool(record.values.isfinite().all()),
        "the values and times of a loss",
        measured=shapes,
        expected=f"a LossRecord with finite values and times of {COUNT} samples",
        why="they are reduced in one place, by the trainer",
    )
    done.outputs["values"] = record.values


def use_metric_of(
    subject: ComponentUnderTest, metric: ModelMetric, process: ForwardProcess, done: Usage
) -> None:
    """Measure a network of such a process against a few samples."""
    trial = trial_of(subject, process, COUNT)
    data = _Few(trial, subject.vocabulary_of(type(process)))
    done.give("x_0", trial.x_0)
    measured = metric.measure_model(
        lambda _: _denoiser(trial, ()), data, subject.seed, torch.device("cpu")
    )
    done.outputs.update({name: torch.as_tensor(v) for name, v in measured.values.items()})
    done.outputs.update({f"curve {name}": curve for name, curve in measured.curves.items()})


class _Few(Dataset):
    """The samples of a trial, with its conditions."""

    def __init__(self, trial: Trial, vocabulary: int | None) -> None:
        self._trial, self._vocabulary = trial, vocabulary

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._trial.x_0.shape[1:])

    @property
    def dtype(self) -> DataType:
        return "float32" if self._vocabulary is None else "int64"

    @property
    def vocabulary(self) -> int | None:
        return self._vocabulary

    def __len__(self) -> int:
        return len(self._trial.x_0)

    def batch(self, indices: Sequence[int]) -> Batch:
        rows = list(indices)
        condition = {name: value[rows] for name, value in self._trial.condition.items()}
        return Batch(self._trial.x_0[rows], condition, condition)


def _denoiser(trial: Trial, told: tuple[str, ...]) -> ModelDenoiser:
    """A network that puts out something smooth, whatever it is asked, and told by these names."""

    def network(x: Tensor, c_noise: Tensor, condition: Condition, /) -> Tensor:
        if trial.output.shape == trial.x_0.shape:
            return 0.5 * x + 0.1
        return trial.output[torch.arange(len(x)) % len(trial.output)]

    return ModelDenoiser(network, trial.process, declared=Declared(given=told, times=told))
