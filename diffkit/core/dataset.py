"""Dataset: where data comes from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from diffkit.core.component import Component
from diffkit.core.denoiser import DataRange
from diffkit.core.loss import Batch


class Dataset(Component):
    """A finite collection of samples of one shape, read in batches.

    Facts, known from the configuration (by reading a header at most): `shape`, of one sample,
    and `range`.
    """

    kind: ClassVar[str] = "dataset"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample; images are channels, height, width."""

    @property
    def range(self) -> DataRange | None:
        """The smallest and largest value that a sample can have, where that is known."""
        return None

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are, at least 1."""

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples at these indices, float32 on the host."""
