"""The laws of metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.dataset import Dataset
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.loss import Batch
from diffkit.core.metric import Denoising, Metric, ModelMetric, SampleMetric
from diffkit.core.process import GaussianProcess
from diffkit.errors import DiffkitError
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest, data_for, pairs_of
from diffkit.testing.laws import NotApplicable, NotChecked, require
from diffkit.testing.oracles import ExactGaussian, OracleModel
from diffkit.testing.reference import Points

_SEED = 5


@check
def values_are_finite_numbers(subject: ComponentUnderTest) -> None:
    """It gives finite numbers by name, for samples as good as data and for collapsed ones."""
    setting = _setting(subject)
    samples = setting.samples
    for what, given in (("data", samples), ("equal samples", samples[:1].expand_as(samples))):
        values = setting.measure(given.clone())
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
    setting = _setting(subject)
    needed = setting.metric.samples_needed(setting.dataset)
    require(
        isinstance(needed, int) and needed >= 1,
        f"samples_needed for {len(setting.dataset)} data",
        measured=repr(needed),
        expected="a whole number, at least 1",
    )


@check
def values_depend_on_the_seed_alone(subject: ComponentUnderTest) -> None:
    """Measured twice with one seed, the values are the same."""
    setting = _setting(subject)
    first = setting.measure(setting.samples)
    _alike("measured again", setting.measure(setting.samples), first)
    again = _setting(subject).measure(setting.samples)
    _alike("measured by another instance", again, first)


@check
def order_of_samples_does_not_matter(subject: ComponentUnderTest) -> None:
    """The values are those of the samples as a set."""
    setting = _setting(subject)
    order = torch.randperm(len(setting.samples), generator=subject.generator("order"))
    first = setting.measure(setting.samples)
    _alike("in another order", setting.measure(setting.samples[order], order), first)


@check
def bad_samples_score_otherwise(subject: ComponentUnderTest) -> None:
    """Noisy samples and collapsed ones score otherwise than data do."""
    setting = _setting(subject)
    samples, generator = setting.samples, subject.generator("noise")
    good = setting.measure(samples)
    if samples.is_floating_point():
        noise = torch.randn(samples.shape, generator=generator)
        noisy = ("data with noise of standard deviation 1", samples + noise)
    else:
        tokens = torch.randint(setting.dataset.vocabulary or 1, samples.shape, generator=generator)
        noisy = ("random tokens", tokens)
    for what, bad in (
        noisy,
        ("one sample over and over", samples[:1].expand_as(samples).clone()),
    ):
        values = setting.measure(bad)
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
    setting = _setting(subject)
    samples = setting.samples
    wider = torch.cat([samples, samples[..., :1]], dim=-1)
    require(
        _refused(setting, wider),
        f"samples of the shape {tuple(wider.shape[1:])} for data of {tuple(samples.shape[1:])}",
        measured="values",
        expected="a DiffkitError that says which shape is expected",
    )
    if not samples.is_floating_point():
        return
    broken = samples.clone()
    broken[0] = torch.nan
    require(
        _refused(setting, broken),
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


@dataclass(frozen=True)
class _Setting:
    """A metric, data, and as many samples as it needs, which are data themselves."""

    metric: SampleMetric
    dataset: Dataset
    samples: Tensor
    of: Batch | None
    """What they were made of, where the example has conditions."""

    def measure(self, samples: Tensor, rows: Tensor | None = None) -> Mapping[str, float]:
        """What is measured of samples that were made of these rows."""
        of = self.of
        if of is not None and rows is not None:
            told = {name: value[rows] for name, value in of.condition.items()}
            of = Batch(of.x_0[rows], told)
        return self.metric.measure(samples, self.dataset, _SEED, of)


def _setting(subject: ComponentUnderTest) -> _Setting:
    metric: Metric = subject.make()
    if not isinstance(metric, SampleMetric):
        raise NotApplicable("it measures models, not samples")
    dataset = data_for(subject)
    needed = metric.samples_needed(dataset)
    rows = [row % len(dataset) for row in range(needed)]
    samples = dataset.batch(rows).x_0
    return _Setting(metric, dataset, samples, pairs_of(subject, samples))


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


def _refused(setting: _Setting, samples: Tensor) -> bool:
    try:
        values = setting.measure(samples)
    except DiffkitError:
        return True
    return not all(math.isfinite(value) for value in values.values())
