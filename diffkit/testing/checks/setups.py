"""The samplers that checks run, and what they run on: also those that need inputs."""

from __future__ import annotations

from typing import cast

from diffkit.core.denoiser import Denoiser
from diffkit.core.process import GaussianProcess
from diffkit.core.sampler import Sampler
from diffkit.testing.checks.limits import MEAN, VARIANCE, sampler_of
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotChecked
from diffkit.testing.oracles import ExactGaussian
from diffkit.testing.trajectories import Supplied, mixture


def shape_for(subject: ComponentUnderTest) -> tuple[int, ...]:
    """The shape of one sample of the trajectory."""
    return subject.fixtures.shape if _needs(subject) else (2,)


def _needs(subject: ComponentUnderTest) -> tuple[str, ...]:
    return cast(type[Sampler], subject.cls).inputs


def exact_for(subject: ComponentUnderTest, process: GaussianProcess) -> Denoiser:
    """Of the kit's mixture in the plane; of Gaussian data where inputs say what the shape is."""
    return ExactGaussian(process, MEAN, VARIANCE) if _needs(subject) else mixture(process)


def runnable_sampler_of(subject: ComponentUnderTest) -> Sampler:
    """As `sampler_of`, of samplers with inputs too where the fixtures has them."""
    if not _needs(subject) or not set(_needs(subject)) <= subject.fixtures.inputs.keys():
        return sampler_of(subject)
    sampler: Sampler = subject.make()
    if not issubclass(GaussianProcess, sampler.process_class):
        raise NotChecked(
            f"it samples from {sampler.process_class.__name__}, of which no exact denoiser is known"
        )
    given = {name: subject.fixtures.inputs[name] for name in sampler.inputs}
    return Supplied(sampler=sampler, given=given)
