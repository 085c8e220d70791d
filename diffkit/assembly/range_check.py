"""A look at the first data: whether they are within the range that is declared for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from diffkit.core.dataset import Dataset, WrappedDataset
from diffkit.core.denoiser import DataRange
from diffkit.core.loss import Batch
from diffkit.errors import DataError

_BATCHES = 10
_ROUNDING = 1e-5
"""Of the width of the range: scaling to it in float32 may miss its ends by so much."""


@final
class RangeCheck:
    """Compares the first batches with the declared range, on the host; later ones cost nothing."""

    def __init__(self, data_range: DataRange | None, tokens: bool = False) -> None:
        self._range, self._tokens = data_range, tokens
        self._left = 0 if data_range is None else _BATCHES

    def __call__(self, rows: Sequence[int], x: Tensor) -> None:
        """Raise DataError with the sample and the value where one is beyond the range.

        What is NaN is not: training finds and reports it, as `training.nonfinite` says.
        """
        if not self._left or self._range is None:
            return
        self._left -= 1
        low, high = self._range
        slack = _ROUNDING * (high - low)
        beyond = ((x < low - slack) | (x > high + slack)).flatten(1)
        if not bool(beyond.any()):
            return
        row, place = (int(i) for i in beyond.nonzero()[0])
        if self._tokens:
            raise DataError(
                f"sample {rows[row]} of the dataset holds the token {int(x.flatten(1)[row, place])}"
                f", and its vocabulary is {int(high) + 1}: 0 to {int(high)}; declare a larger "
                "vocabulary, or give other tokens"
            )
        raise DataError(
            f"sample {rows[row]} of the dataset holds the value {float(x.flatten(1)[row, place]):g}"
            f", and data.range declares [{low:g}, {high:g}]: predictions would be clipped to that; "
            "scale the data to it, or declare the range that they have, or null for none"
        )


@final
class RangeChecked(WrappedDataset):
    """Another dataset, whose first batches are compared with the declared range."""

    def __init__(
        self, *, dataset: Dataset, data_range: DataRange | None, numbers: bool = True
    ) -> None:
        super().__init__(dataset=dataset)
        self._look, self._numbers = RangeCheck(data_range), numbers
        if dataset.dtype == "int64" and dataset.vocabulary is not None:
            self._look = RangeCheck((0, dataset.vocabulary - 1), tokens=True)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The other's samples: float32 where they are numbers, int64 where they are tokens.

        Raises DataError where one is beyond the range, or where these are no samples.
        """
        read = self._checked(self.wrapped.batch(indices), len(indices))
        self._look(indices, read.x_0)
        return read

    def _checked(self, read: object, count: int) -> Batch:
        """A batch of so many samples. `numbers`: not of tokens. Raises DataError for another."""
        name = f"the dataset {type(self.wrapped).__name__}"
        if not isinstance(read, Batch) or not isinstance(read.x_0, Tensor):
            raise DataError(f"{name} gives a {type(read).__name__}, and not a Batch of tensors")
        if tuple(read.x_0.shape) != (count, *self.shape):
            raise DataError(
                f"{name} gives samples of the shape {list(read.x_0.shape)}, and was asked for "
                f"{count} of {list(self.shape)}"
            )
        for what, value in (*read.condition.items(), *read.given.items()):
            if not isinstance(value, Tensor) or value.shape[:1] != (count,):
                raise DataError(f"{name} gives no row of the condition {what} for each sample")
        if self.wrapped.dtype == "int64" and read.x_0.dtype != torch.int64:
            raise DataError(
                f"{name} declares tokens (int64), and gives "
                f"{str(read.x_0.dtype).removeprefix('torch.')}; give what it declares"
            )
        if not self._numbers or read.x_0.dtype == torch.float32:
            return read
        if not read.x_0.is_floating_point():
            raise DataError(
                f"{name} gives {str(read.x_0.dtype).removeprefix('torch.')}; give float32, scaled "
                "to the range that it declares"
            )
        return Batch(read.x_0.float(), read.condition, read.given)
