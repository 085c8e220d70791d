"""The samplers that checks run, and what they run on: also those that need inputs."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import cast

from diffkit.assembly.facts import schedule_facts
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.component import Config, arguments_of
from diffkit.core.denoiser import Denoiser
from diffkit.core.process import GaussianProcess
from diffkit.core.sampler import Sampler
from diffkit.testing.beside import MEAN, VARIANCE, WithExtras, placed
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.groups import InGroups
from diffkit.testing.laws import NotApplicable, NotChecked
from diffkit.testing.oracles import ExactGaussian
from diffkit.testing.processes import Curve, curves_for, own_process
from diffkit.testing.trajectories import Supplied, mixture

_PLANE = 2


def shape_for(subject: ComponentUnderTest) -> tuple[int, ...]:
    """The shape of one sample of the trajectory: that of the example, or two numbers."""
    fixtures = subject.fixtures
    return fixtures.shape if fixtures.shape_is_given or _class(subject).inputs else (_PLANE,)


def curves_of(subject: ComponentUnderTest) -> tuple[Curve, ...]:
    """How to make the processes that a sampler is for. Raises NotChecked where none is known."""
    return curves_for(subject, _class(subject).process_class)


def usual(subject: ComponentUnderTest) -> GaussianProcess:
    """The process that most laws are measured on: the example's, or one of the linear schedule."""
    own = own_process(subject, _class(subject).process_class)
    return curves_of(subject)[0](Linear()) if own is None else own


def exact_for(subject: ComponentUnderTest, process: GaussianProcess) -> Denoiser:
    """Of the kit's mixture in the plane, with Gaussian coordinates beside it where there are more.

    Of Gaussian data alone where inputs say what the data are, or samples are one number.
    """
    shape = shape_for(subject)
    if _class(subject).inputs or math.prod(shape) < _PLANE:
        return told(subject, ExactGaussian(process, MEAN, VARIANCE))
    return told(subject, placed(mixture(process), _PLANE, shape))


def told(subject: ComponentUnderTest, denoiser: Denoiser) -> Denoiser:
    """The denoiser, with the extras that the sampler needs of a network."""
    needed = _class(subject).extras
    extras = {name: subject.fixtures.extras[name] for name in needed}
    return WithExtras(denoiser, extras) if extras else denoiser


def consent(subject: ComponentUnderTest, process: GaussianProcess) -> None:
    """Raise NotApplicable where the sampler, or the process, refuses the process's schedule."""
    for problem in refuses(subject, process):
        raise NotApplicable(f"such a schedule is refused: {problem}")


def refuses(subject: ComponentUnderTest, process: GaussianProcess) -> list[str]:
    """Why a trajectory on this process and its schedule is refused before it begins; or nothing."""
    facts = {
        **schedule_facts(process.schedule),
        "data.range": (-1.0, 1.0),
        "data.shape": shape_for(subject),
    }
    found = []
    for asked in (process, subject.make()):
        config = cast(Config, SimpleNamespace(**arguments_of(asked)))
        found += list(type(asked).requires(config, facts))
    return found


def sampler_of(subject: ComponentUnderTest) -> Sampler:
    """An instance. Raises NotChecked where no exact answer is known of what it samples from."""
    sampler: Sampler = subject.make()
    curves_of(subject)
    if sampler.inputs:
        inputs = ", ".join(sampler.inputs)
        # Conditions that inputs pose have answers of their own, which the kit does not know.
        raise NotChecked(f"it needs inputs, of which no exact answer is known: {inputs}")
    subject.require_extras(sampler.extras)
    return with_inputs(subject, sampler)


def runnable_sampler_of(subject: ComponentUnderTest) -> Sampler:
    """As `sampler_of`, of samplers with inputs too where the fixtures has them."""
    sampler: Sampler = subject.make()
    curves_of(subject)
    subject.require_extras(sampler.extras)
    return with_inputs(subject, sampler)


def with_inputs(subject: ComponentUnderTest, sampler: Sampler) -> Sampler:
    """The sampler, as one of single samples that has its inputs.

    Raises NotChecked where the fixtures lack one.
    """
    found = sampler
    if sampler.inputs:
        if not set(sampler.inputs) <= subject.fixtures.inputs.keys():
            raise _needs_inputs(sampler)
        given = {name: subject.fixtures.inputs[name] for name in sampler.inputs}
        found = Supplied(sampler=sampler, given=given)
    return found if sampler.group == 1 else InGroups(sampler=found, group=sampler.group)


def _needs_inputs(sampler: Sampler) -> NotChecked:
    return NotChecked(
        f"it needs inputs: {', '.join(sampler.inputs)}; give `Example(inputs={{...}})`"
    )


def _class(subject: ComponentUnderTest) -> type[Sampler]:
    return cast(type[Sampler], subject.cls)
