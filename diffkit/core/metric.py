"""Metric: how good samples are; FeatureExtractor: in which space that is measured."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from diffkit.core.component import Component
from diffkit.core.dataset import Dataset

if TYPE_CHECKING:
    from jaxtyping import Float

Embedding = Callable[[Tensor], Tensor]
"""Samples `[b, *data]` to features `[b, features]`."""


class FeatureExtractor(Component):
    """Gives the space in which samples and data are compared."""

    kind: ClassVar[str] = "features"

    @abstractmethod
    def fit(self, dataset: Dataset, seed: int) -> Embedding:
        """An embedding for data like this; one with weights of its own may ignore the data."""


class Metric(Component):
    """A number, or a few, about samples in comparison with data."""

    kind: ClassVar[str] = "metric"

    @abstractmethod
    def samples_needed(self, dataset: Dataset) -> int:
        """How many samples `measure` wants."""

    @abstractmethod
    def measure(
        self, samples: Float[Tensor, "n *data"], dataset: Dataset, seed: int
    ) -> Mapping[str, float]:
        """Named values; lower or higher is better as the docstring says."""
