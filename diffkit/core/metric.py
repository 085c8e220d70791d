"""Metric: how good a model is, or its samples; FeatureExtractor: in which space those are seen."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from diffkit.core.component import Component
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import Denoiser
from diffkit.core.loss import Batch
from diffkit.core.model import Condition

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

Embedding = Callable[[Tensor], Tensor]
"""Samples `[b, *data]` to features `[b, features]`."""


class FeatureExtractor(Component):
    """Gives the space in which samples and data are compared."""

    kind: ClassVar[str] = "features"

    @abstractmethod
    def fit(self, dataset: Dataset, seed: int) -> Embedding:
        """An embedding for data like this; one with weights of its own may ignore the data."""


class Metric(Component):
    """A number, or a few, about a trained model: a `SampleMetric` or a `ModelMetric`."""

    kind: ClassVar[str] = "metric"


class SampleMetric(Metric):
    """A number, or a few, about samples in comparison with data."""

    @abstractmethod
    def samples_needed(self, dataset: Dataset) -> int:
        """How many samples `measure` wants."""

    @abstractmethod
    def measure(
        self,
        samples: Shaped[Tensor, "n *data"],
        dataset: Dataset,
        seed: int,
        of: Batch | None,
    ) -> Mapping[str, float]:
        """Named values; lower or higher is better as the docstring says.

        `of` has the data whose conditions the samples were made of, row by row, with those
        conditions as the dataset gives them: what a paired metric compares with; in `given` are
        the inputs of the sampler, such as a mask. None where they were made of neither, or of
        nobody knows which: a metric of pairs then raises DataError, and its `examples` have
        conditions.
        """


Denoising = Callable[[Condition], Denoiser]
"""A trained model, for conditions with one row a sample."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What a `ModelMetric` finds."""

    values: Mapping[str, float]
    curves: Mapping[str, Float[Tensor, "points 2"]] = field(default_factory=dict)
    """By name, pairs of a time and a value, to be drawn."""


class ModelMetric(Metric):
    """A number, or a few, about what a model says of data, without samples: a likelihood."""

    @abstractmethod
    def measure_model(
        self, model: Denoising, dataset: Dataset, seed: int, device: torch.device
    ) -> Measured:
        """Named values, and curves; lower or higher is better as the docstring says."""
