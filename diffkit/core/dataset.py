"""Dataset: where data comes from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from diffkit.core.component import Component, Config, facts_of
from diffkit.core.data import Conditions, DataType
from diffkit.core.denoiser import DataRange
from diffkit.core.loss import Batch


class Dataset(Component):
    """A finite collection of samples of one shape, read in batches.

    Facts, known from the configuration (by reading a header at most): `shape`, of one sample,
    and `range`; `conditions`, by name, each a `ConditionInfo`; of tokens, `dtype` "int64" and
    `vocabulary`, how many different ones there are. Conditions that are not declared are looked
    at when training begins.
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

    @property
    def dtype(self) -> DataType:
        """What samples are: "float32", or "int64" for tokens."""
        return "float32"

    @property
    def vocabulary(self) -> int | None:
        """How many different tokens there are; they count from 0."""
        return None

    @property
    def conditions(self) -> Conditions | None:
        """What `batch` gives beside samples, by name; None where that is not declared."""
        return None

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are, at least 1."""

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples at these indices, of the declared dtype, on the host."""


class WrappedDataset(Dataset):
    """A dataset around another, with that one's length and all that it declares.

    One that is a component calls its argument `dataset` too: facts are those of that one.
    """

    def __init__(self, *, dataset: Dataset) -> None:
        self.wrapped = dataset

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """Those of the dataset within."""
        return facts_of(config.dataset)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the dataset within."""
        return self.wrapped.shape

    @property
    def range(self) -> DataRange | None:
        """That of the dataset within."""
        return self.wrapped.range

    @property
    def dtype(self) -> DataType:
        """That of the dataset within."""
        return self.wrapped.dtype

    @property
    def vocabulary(self) -> int | None:
        """That of the dataset within."""
        return self.wrapped.vocabulary

    @property
    def conditions(self) -> Conditions | None:
        """Those of the dataset within."""
        return self.wrapped.conditions

    def __len__(self) -> int:
        return len(self.wrapped)
