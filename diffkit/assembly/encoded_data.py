"""Data seen through an autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from diffkit.assembly.components import Components
from diffkit.assembly.range_check import RangeCheck
from diffkit.core.data import DataType
from diffkit.core.dataset import Dataset, WrappedDataset
from diffkit.core.loss import Batch
from diffkit.errors import DataError


class Encoded(WrappedDataset):
    """A dataset seen through an autoencoder, which is asked whenever a sample is read."""

    def __init__(self, *, dataset: Dataset, parts: Components, device: torch.device) -> None:
        assert parts.latents is not None
        if tuple(dataset.shape) != parts.sample_shape:
            raise DataError(
                f"the dataset has samples of the shape {list(dataset.shape)}, and the pipeline "
                f"was built for {list(parts.sample_shape)}; set data.shape, or the dataset in "
                "the spec"
            )
        super().__init__(dataset=dataset)
        self.space, self._shape = parts.latents, parts.shape
        self._device, self._look = device, RangeCheck(parts.sample_range)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of a latent."""
        return self._shape

    @property
    def range(self) -> None:
        """Nobody knows that of latents."""
        return

    @property
    def dtype(self) -> DataType:
        """Latents are numbers."""
        return "float32"

    @property
    def vocabulary(self) -> None:
        """Latents are no tokens."""
        return

    def batch(self, indices: Sequence[int]) -> Batch:
        """The latents, with the conditions of the samples.

        Raises DataError where a latent is not finite, or not of the shape that was declared; or a
        sample of the first batches is beyond the range.
        """
        read = self.wrapped.batch(indices)
        self._look(indices, read.x_0)
        with torch.no_grad():
            z = self.space.encode(read.x_0.to(self._device)).cpu()
        name = type(self.space.autoencoder).__name__
        if tuple(z.shape) != (len(indices), *self._shape):
            raise DataError(
                f"autoencoder: {name} declares latents of the shape {list(self._shape)} and gives "
                f"{list(z.shape[1:])}; tell its authors"
            )
        if not bool(z.isfinite().all()):
            raise DataError(
                f"autoencoder: {name} gives latents that are not finite for some of the samples "
                f"{list(indices)[:3]} ...; take another, or train it again"
            )
        return Batch(z, dict(read.condition))
