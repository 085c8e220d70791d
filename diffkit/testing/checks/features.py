"""The laws of feature extractors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffkit.core.component import Config
from diffkit.core.dataset import WrappedDataset
from diffkit.core.loss import Batch
from diffkit.core.metric import Embedding, FeatureExtractor
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import require, within
from diffkit.testing.reference import Points

_SEED = 5


@check
def features_are_finite_rows(subject: ComponentUnderTest) -> None:
    """The embedding gives one row of finite floating-point numbers a sample, and no gradients."""
    embed, samples = _fitted(subject), _samples(subject)
    whole = embed(samples)
    for count in (1, 3):
        features = embed(samples[:count])
        require(
            features.shape == (count, whole.shape[-1]) and features.is_floating_point(),
            f"the features of {count} samples",
            measured=f"{features.dtype} {tuple(features.shape)}",
            expected=f"floating point, ({count}, the number of features)",
        )
    require(
        bool(whole.isfinite().all()),
        f"the features of {len(samples)} samples",
        measured=f"{int((~whole.isfinite()).sum())} not finite",
        expected="all finite",
    )
    require(
        not whole.requires_grad,
        "the features",
        measured="they hold the graph of their computation",
        expected="no gradients",
        why="thousands of samples are embedded one after the other, and the graphs would pile up",
    )


@check
def features_are_of_their_own_sample(subject: ComponentUnderTest) -> None:
    """The features of a sample do not depend on the batch it is in."""
    embed, samples = _fitted(subject), _samples(subject)
    whole = embed(samples).detach()
    why = "only the order of sums may differ, float32's 6e-8 of their size a term"
    tolerance = 1e-4 * float(whole.abs().max())
    within("the features of a sample alone", embed(samples[:1]), whole[:1], tolerance, why)
    within("features in another order", embed(samples.flip(0)), whole.flip(0), tolerance, why)


@check
def features_depend_on_the_seed_alone(subject: ComponentUnderTest) -> None:
    """Fitted twice with one seed, and asked twice, the features are the same."""
    embed, samples = _fitted(subject), _samples(subject)
    first = embed(samples).detach()
    within("the features asked again", embed(samples), first, 0.0, "nothing random is left")
    within(
        "the features fitted again",
        _fitted(subject)(samples),
        first,
        1e-4 * float(first.abs().max()),
        "sums on other threads may differ by rounding",
    )


@check
def features_tell_samples_apart(subject: ComponentUnderTest) -> None:
    """Different samples have different features."""
    features = _fitted(subject)(_samples(subject))
    require(
        bool((features - features[:1]).any()),
        f"the features of {len(features)} different samples",
        measured="all equal",
        expected="different",
        why="a distance between equal features is zero, however bad the samples",
    )


CHECKS: tuple[Check, ...] = (
    features_are_finite_rows,
    features_are_of_their_own_sample,
    features_depend_on_the_seed_alone,
    features_tell_samples_apart,
)


class _LabelledPoints(WrappedDataset):
    """Points, labelled by which side of a plane they are on."""

    def __init__(self, *, shape: tuple[int, ...]) -> None:
        super().__init__(dataset=Points(shape=shape))
        x_0 = self.wrapped.batch(range(len(self))).x_0.flatten(1)
        normal = torch.randn(x_0.shape[1], generator=torch.Generator().manual_seed(0))
        along = x_0 @ normal
        self._labels = (along > along.median()).long()

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        return Points.facts(config)

    def batch(self, indices: Sequence[int]) -> Batch:
        rows = torch.as_tensor(indices, dtype=torch.int64)
        return Batch(self.wrapped.batch(indices).x_0, {"label": self._labels[rows]})


def _fitted(subject: ComponentUnderTest) -> Embedding:
    extractor: FeatureExtractor = subject.make()
    return extractor.fit(_LabelledPoints(shape=subject.fixtures.shape), _SEED)


def _samples(subject: ComponentUnderTest) -> Tensor:
    return Points(shape=subject.fixtures.shape).batch(range(16)).x_0
