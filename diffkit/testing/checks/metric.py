"""The laws of metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

import torch
from torch import Tensor

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.dataset import Dataset
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.metric import Denoising, Metric, ModelMetric, SampleMetric
from diffkit.core.process import GaussianProcess
from diffkit.errors import DiffkitError
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, NotChecked, require
from diffkit.testing.oracles import ExactGaussian, OracleModel
from diffkit.testing.reference import Points

_SEED = 5


@check
def values_are_finite_numbers(subject: ComponentUnderTest) -> None:
    """It gives finite numbers by name, for samples as good as data and for collapsed ones."""
    metric, dataset, samples = _setting(subject)
    for what, given in (("data", samples), ("equal samples", samples[:1].expand_as(samples))):
        values = metric.measure(given.clone(), dataset, _SEED, None)
        right = all(isinstance(v, Real) and math.isfinite(v) for v in values.values())
        named = all(isinstance(name, str) for name in values)
        require(
            bool(values) and right and named,
            f"what it measures of {what}",
            measured=dict(values),
            expected="finite numbers by name, at least one",
        )


@check
def samples_needed_is_positive(subject: ComponentUnderTest) -> None:
    """It needs a whole number of samples, at least 1."""
    metric, dataset, _ = _setting(subject)
    needed = metric.samples_needed(dataset)
    require(
        isinstance(needed, int) and needed >= 1,
        f"samples_needed for {len(dataset)} data",
        measured=repr(needed),
        expected="a whole number, at least 1",
    )


@check
def values_depend_on_the_seed_alone(subject: ComponentUnderTest) -> None:
    """Measured twice with one seed, the values are the same."""
    metric, dataset, samples = _setting(subject)
    first = metric.measure(samples, dataset, _SEED, None)
    _alike("measured again", metric.measure(samples, dataset, _SEED, None), first)
    again = _setting(subject)[0].measure(samples, dataset, _SEED, None)
    _alike("measured by another instance", again, first)


@check
def order_of_samples_does_not_matter(subject: ComponentUnderTest) -> None:
    """The values are those of the samples as a set."""
    metric, dataset, samples = _setting(subject)
    order = torch.randperm(len(samples), generator=subject.generator("order"))
    first = metric.measure(samples, dataset, _SEED, None)
    _alike("in another order", metric.measure(samples[order], dataset, _SEED, None), first)


@check
def bad_samples_score_otherwise(subject: ComponentUnderTest) -> None:
    """Noisy samples and collapsed ones score otherwise than data do."""
    metric, dataset, samples = _setting(subject)
    good = metric.measure(samples, dataset, _SEED, None)
    noise = torch.randn(samples.shape, generator=subject.generator("noise"))
    for what, bad in (
        ("data with noise of standard deviation 1", samples + noise),
        ("one sample over and over", samples[:1].expand_as(samples).clone()),
    ):
        values = metric.measure(bad, dataset, _SEED, None)
        changes = [_change(values[name], good[name]) for name in good]
        require(
            max(changes) > 0.1,
            f"the values for {what}",
            measured=f"{dict(values)}, where data score {dict(good)}",
            expected="one of them more than 10% away at least",
            why="a metric is there to tell the two apart",
        )


@check
def wrong_samples_are_refused(subject: ComponentUnderTest) -> None:
    """Samples of another shape raise a DiffkitError; such that are not finite do not pass."""
    metric, dataset, samples = _setting(subject)
    wider = torch.cat([samples, samples[..., :1]], dim=-1)
    require(
        _refused(metric, wider, dataset),
        f"samples of the shape {tuple(wider.shape[1:])} for data of {tuple(samples.shape[1:])}",
        measured="values",
        expected="a DiffkitError that says which shape is expected",
    )
    broken = samples.clone()
    broken[0] = torch.nan
    require(
        _refused(metric, broken, dataset),
        "samples one of which is not finite",
        measured="finite values",
        expected="a DiffkitError, or a value that is not finite",
        why="a sampler that diverged must not look good",
    )


@check
def a_model_that_knows_the_data_is_told_from_others(subject: ComponentUnderTest) -> None:
    """Of models, values are finite, repeat with the seed, and differ for a wrong one."""
    metric: Metric = subject.make()
    if not isinstance(metric, ModelMetric):
        raise NotApplicable("it measures samples, not models")
    process = subject.fixtures.process and subject.fixtures.process()
    if process is not None and not isinstance(process, GaussianProcess):
        name = type(process).__name__
        raise NotChecked(f"of a {name}, which is not Gaussian, no exact network is known")
    dataset = Points(shape=subject.fixtures.shape, count=16)
    found = []
    for knowing in (1.0, 1.0, 0.5):
        model = _model(dataset, knowing)
        found.append(metric.measure_model(model, dataset, _SEED, torch.device("cpu")).values)
    right, again, wrong = found
    require(
        bool(right) and all(math.isfinite(value) for value in (*right.values(), *wrong.values())),
        "what it measures of models",
        measured={**right, **wrong},
        expected="finite numbers by name, at least one",
    )
    _alike("measured again", again, right)
    require(
        any(_change(wrong[name], right[name]) > 1e-3 for name in right),
        "the values of a model that knows the data, and of one that is half wrong",
        measured=dict(wrong),
        expected=f"other values than {dict(right)}",
        why="a metric that cannot tell them apart says nothing",
    )


CHECKS: tuple[Check, ...] = (
    a_model_that_knows_the_data_is_told_from_others,
    values_are_finite_numbers,
    samples_needed_is_positive,
    values_depend_on_the_seed_alone,
    order_of_samples_does_not_matter,
    bad_samples_score_otherwise,
    wrong_samples_are_refused,
)


def _model(dataset: Dataset, knowing: float) -> Denoising:
    """The exact denoiser of a Gaussian with the data's mean, or that times `knowing`."""
    process = VariancePreserving(schedule=Linear(steps=50, rescale=False))
    mean = dataset.batch(range(len(dataset))).x_0.double().mean(0)
    exact = ExactGaussian(process, knowing * mean.flatten(), 0.3)
    model = OracleModel(denoiser=exact, parameterization=Epsilon())
    low, high = dataset.range or (-1.0, 1.0)
    denoiser = GaussianDenoiser(model, Epsilon(), process, data_range=(low, high))
    return lambda _: denoiser


def _setting(subject: ComponentUnderTest) -> tuple[SampleMetric, Dataset, Tensor]:
    """The metric, data, and as many samples as it needs, which are data themselves."""
    metric: Metric = subject.make()
    if not isinstance(metric, SampleMetric):
        raise NotApplicable("it measures models, not samples")
    dataset = Points(shape=subject.fixtures.shape)
    needed = metric.samples_needed(dataset)
    rows = [row % len(dataset) for row in range(needed)]
    return metric, dataset, dataset.batch(rows).x_0


def _change(value: float, reference: float) -> float:
    return abs(value - reference) / max(abs(value), abs(reference), 1e-12)


def _alike(what: str, found: Mapping[str, float], expected: Mapping[str, float]) -> None:
    require(
        found.keys() == expected.keys()
        and all(_change(found[name], expected[name]) <= 1e-4 for name in expected),
        f"the values {what}",
        measured=dict(found),
        expected=dict(expected),
        why="only the order of sums may differ, float32's 6e-8 of their size a term",
    )


def _refused(metric: SampleMetric, samples: Tensor, dataset: Dataset) -> bool:
    try:
        values = metric.measure(samples, dataset, _SEED, None)
    except DiffkitError:
        return True
    return not all(math.isfinite(value) for value in values.values())
