"""The laws of every forward process, be it Gaussian or not: of tokens, of bridges, of masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffkit.core.model import Condition
from diffkit.core.noise import SampleNoise
from diffkit.core.prediction import Prediction
from diffkit.core.process import ForwardProcess
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotChecked, require

_COUNT = 3


@dataclass(frozen=True)
class Trial:
    """A process, and what it is tried with."""

    process: ForwardProcess
    x_0: Tensor
    condition: Condition
    output: Tensor
    """What a network might put out: logits of tokens."""


def trial_of(
    subject: ComponentUnderTest,
    process: ForwardProcess,
    count: int = _COUNT,
    dtype: torch.dtype = torch.float32,
) -> Trial:
    """Data of the fixtures' shape: tokens, where they have a vocabulary; else numbers.

    Raises NotChecked where the process takes a condition that the fixtures do not have.
    """
    shape, offered = (count, *subject.fixtures.shape), subject.fixtures.condition(count)
    if missing := [name for name in process.takes if name not in offered]:
        raise NotChecked(
            f"the process takes {', '.join(missing)}; give `Example(conditions={{...}})`"
        )
    condition = {
        name: offered[name].to(dtype) if offered[name].is_floating_point() else offered[name]
        for name in process.takes
    }
    generator = subject.generator("data")
    vocabulary = subject.vocabulary_of(type(process))
    if vocabulary is None:
        x_0 = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        return Trial(process, x_0, condition, (0.5 * x_0 + 0.1).clone())
    x_0 = torch.randint(vocabulary, shape, generator=generator)
    logits = torch.randn((*shape, vocabulary), generator=generator, dtype=torch.float64).to(dtype)
    return Trial(process, x_0, condition, logits)


def noise_for(subject: ComponentUnderTest, *indices: int) -> SampleNoise:
    """Noise of these samples."""
    return SampleNoise(seed=subject.seed_for("process"), indices=indices or range(_COUNT))


@check
def diffusion_keeps_the_kind_of_data(subject: ComponentUnderTest) -> None:
    """`diffuse` gives the shape and dtype of the data at any time, and writes to no input."""
    trial = trial_of(subject, subject.make())
    before = trial.x_0.clone()
    drawn = trial.process.draw(trial.x_0, noise_for(subject), trial.condition)
    for t in (0.3, torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)):
        x_t = trial.process.diffuse(trial.x_0, t, drawn)
        _alike_in_kind(f"diffuse at t = {t}", x_t, trial.x_0)
        require(
            torch.equal(trial.x_0, before),
            "the data, once they were diffused",
            measured="other values",
            expected="what they were",
            why="a batch is diffused once for each of several purposes",
        )


@check
def at_time_zero_it_is_the_data(subject: ComponentUnderTest) -> None:
    """At t = 0 what is diffused is the data."""
    trial = trial_of(subject, subject.make())
    drawn = trial.process.draw(trial.x_0, noise_for(subject), trial.condition)
    x_t = trial.process.diffuse(trial.x_0, 0.0, drawn)
    _alike_in_kind("diffuse at t = 0", x_t, trial.x_0)
    # Numbers to rounding in float32; tokens exactly.
    same = torch.allclose(x_t.double(), trial.x_0.double(), rtol=1e-5, atol=1e-6)
    require(
        same and (trial.x_0.is_floating_point() or torch.equal(x_t, trial.x_0)),
        "diffuse at t = 0",
        measured=f"off by {float((x_t.double() - trial.x_0.double()).abs().max()):.3g}",
        expected="the data",
        why="t = 0 is data, by the definition of time",
    )


@check
def the_prior_is_of_the_kind_of_data(subject: ComponentUnderTest) -> None:
    """`prior` gives a sample of the asked shape, and of the dtype of the data."""
    trial = trial_of(subject, subject.make())
    given = {name: trial.condition[name] for name in trial.process.prior_takes}
    x = trial.process.prior(tuple(trial.x_0.shape), noise_for(subject), given)
    _alike_in_kind("prior", x, trial.x_0)


@check
def a_step_back_keeps_the_kind_of_data(subject: ComponentUnderTest) -> None:
    """`interpret` gives a prediction, and `reverse` a state like the one before, left as it was."""
    trial = trial_of(subject, subject.make())
    drawn = trial.process.draw(trial.x_0, noise_for(subject), trial.condition)
    x_t = trial.process.diffuse(trial.x_0, 0.6, drawn)
    prediction = trial.process.interpret(trial.output, x_t, 0.6)
    require(
        isinstance(prediction, Prediction) and len(prediction.x_0) == _COUNT,
        "what interpret gives",
        measured=type(prediction).__name__,
        expected="a Prediction whose x_0 has a row for each sample",
    )
    before = x_t.clone()
    for s in (0.3, 0.0):
        x_s = trial.process.reverse(prediction, x_t, 0.6, s, noise_for(subject))
        _alike_in_kind(f"reverse to s = {s}", x_s, x_t)
    require(
        torch.equal(x_t, before),
        "the state that it steps back from",
        measured="other values",
        expected="what it was",
        why="a state is never written again after it is yielded",
    )


def _alike_in_kind(what: str, found: Any, like: Tensor) -> None:
    kind = (type(found).__name__, getattr(found, "dtype", None), tuple(getattr(found, "shape", ())))
    wanted = ("Tensor", like.dtype, tuple(like.shape))
    require(
        kind == wanted,
        what,
        measured=kind,
        expected=wanted,
        why="tokens that are whole numbers stay so, and the next step is asked with what this gave",
    )


def outputs_of(subject: ComponentUnderTest, trial: Trial, dtype: torch.dtype) -> Mapping[str, Any]:
    """What a process that is not Gaussian gives, for the laws of every component."""
    noise = SampleNoise(
        seed=subject.seed_for("exercise"), indices=range(len(trial.x_0)), dtype=dtype
    )
    drawn = trial.process.draw(trial.x_0, noise, trial.condition)
    x_t = trial.process.diffuse(trial.x_0, 0.6, drawn)
    prediction = trial.process.interpret(trial.output, x_t, 0.6)
    given = {name: trial.condition[name] for name in trial.process.prior_takes}
    prior = trial.process.prior(tuple(trial.x_0.shape), noise, given)
    return {
        "diffuse": x_t,
        # One that is a single point knows no dtype but float32's.
        "prior": prior.to(dtype) if prior.is_floating_point() else prior,
        "x_0": prediction.x_0,
        "reverse": trial.process.reverse(prediction, x_t, 0.6, 0.4, noise),
    }


ANY_CHECKS: tuple[Check, ...] = (
    diffusion_keeps_the_kind_of_data,
    at_time_zero_it_is_the_data,
    the_prior_is_of_the_kind_of_data,
    a_step_back_keeps_the_kind_of_data,
)
