"""Using data, and what is measured on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.dataset import Dataset
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.metric import FeatureExtractor, Metric, ModelMetric, SampleMetric
from diffkit.core.process import GaussianProcess
from diffkit.core.stream import Stream
from diffkit.testing.component_under_test import ComponentUnderTest, data_for, pairs_of
from diffkit.testing.reference import Points
from diffkit.testing.usages.networks import FixedWithVariance
from diffkit.testing.usages.not_gaussian import use_metric_of
from diffkit.testing.usages.record import Usage, samples_for


def use_dataset(subject: ComponentUnderTest, dataset: Dataset, done: Usage, _: torch.dtype) -> None:
    """Read a batch, one sample twice."""
    streams = isinstance(dataset, Stream)
    length = 4 if streams else len(dataset)
    indices: Sequence[int] = range(4) if streams else [i % length for i in (0, 3, 1, 0)]
    batch = dataset.batch(indices)
    done.outputs["x_0"] = batch.x_0
    done.outputs.update({f"condition {name}": v for name, v in batch.condition.items()})
    done.outputs["length"] = torch.tensor(length)
    done.outputs["shape"] = torch.tensor(dataset.shape)
    done.outputs["range"] = torch.tensor(dataset.range or ())
    done.outputs["vocabulary"] = torch.tensor(dataset.vocabulary or ())


def use_features(
    subject: ComponentUnderTest, features: FeatureExtractor, done: Usage, _: torch.dtype
) -> None:
    """Fit to points, and embed samples."""
    data = data_for(subject, 64)
    samples = done.give("samples", samples_for(subject, torch.float32))
    done.outputs["features"] = features.fit(data, subject.seed)(samples)


def use_metric(subject: ComponentUnderTest, metric: Metric, done: Usage, _: torch.dtype) -> None:
    """Measure samples, or a model, against points."""
    if isinstance(metric, ModelMetric):
        _model_metric(subject, metric, done)
        return
    assert isinstance(metric, SampleMetric)
    data = data_for(subject, 64)
    count = min(metric.samples_needed(data), 256)
    samples = done.give("samples", samples_for(subject, torch.float32, count))
    of = pairs_of(subject, data.batch([row % len(data) for row in range(count)]).x_0)
    measured = metric.measure(samples, data, subject.seed, of)
    done.outputs.update({name: torch.as_tensor(value) for name, value in measured.items()})
    done.outputs["samples needed"] = torch.tensor(metric.samples_needed(data))


def _model_metric(subject: ComponentUnderTest, metric: ModelMetric, done: Usage) -> None:
    given = subject.fixtures.process and subject.fixtures.process()
    if given is not None and not isinstance(given, GaussianProcess):
        use_metric_of(subject, metric, given, done)
        return
    process = VariancePreserving(schedule=Linear(steps=50, rescale=False))
    denoiser = GaussianDenoiser(
        FixedWithVariance(), Epsilon(), process, data_range=(-1.0, 1.0), learned_variance=True
    )
    data = Points(shape=subject.fixtures.shape, count=16)
    measured = metric.measure_model(lambda _: denoiser, data, subject.seed, torch.device("cpu"))
    done.outputs.update({name: torch.as_tensor(v) for name, v in measured.values.items()})
    done.outputs.update({f"curve {name}": curve for name, curve in measured.curves.items()})
