"""The samplers that checks walk, and what they walk: also those that need inputs."""

from __future__ import annotations

from typing import cast

from diffkit.core.denoiser import Denoiser
from diffkit.core.process import GaussianProcess
from diffkit.core.sampler import Sampler
from diffkit.testing.checks.limits import MEAN, VARIANCE, sampler_of
from diffkit.testing.laws import NotApplicable
from diffkit.testing.oracles import ExactGaussian
from diffkit.testing.subject import Subject
from diffkit.testing.walks import Supplied, mixture


def shape_for(subject: Subject) -> tuple[int, ...]:
    """The shape of one sample of the walk."""
    return subject.bench.shape if _needs(subject) else (2,)


def _needs(subject: Subject) -> tuple[str, ...]:
    return cast(type[Sampler], subject.cls).inputs


def exact_for(subject: Subject, process: GaussianProcess) -> Denoiser:
    """Of the kit's mixture in the plane; of Gaussian data where inputs say what the shape is."""
    return ExactGaussian(process, MEAN, VARIANCE) if _needs(subject) else mixture(process)


def walker_of(subject: Subject) -> Sampler:
    """As `sampler_of`, of samplers with inputs too where the bench has them."""
    if not _needs(subject) or not set(_needs(subject)) <= subject.bench.inputs.keys():
        return sampler_of(subject)
    sampler: Sampler = subject.make()
    if not issubclass(GaussianProcess, sampler.process_class):
        raise NotApplicable(f"it walks {sampler.process_class.__name__}")
    given = {name: subject.bench.inputs[name] for name in sampler.inputs}
    return Supplied(sampler=sampler, given=given)
