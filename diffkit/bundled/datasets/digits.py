"""Small digits that come with scikit-learn: a real dataset without a download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from diffkit.core.component import Config
from diffkit.core.data import ConditionInfo, Conditions
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import DataRange
from diffkit.core.loss import Batch
from diffkit.errors import DataError

_SHAPE = (1, 8, 8)
_RANGE = (-1.0, 1.0)
_CONDITIONS = {"label": ConditionInfo(dtype="int64", classes=10)}


@final
class Digits(Dataset):
    """The 1,797 handwritten digits of scikit-learn, `(1, 8, 8)`, with the condition `label`.

    Ink is counted from 0 to 16, which becomes [-1, 1]; labels are 0 to 9. Alpaydin & Kaynak
    (1998), "Optical recognition of handwritten digits", the test set.

    Raises:
        DataError: scikit-learn is not installed.
    """

    def __init__(self) -> None:
        images, labels = _load()
        self._images = torch.from_numpy(images.astype(np.uint8)).unsqueeze(1)
        self._labels = torch.from_numpy(labels.astype(np.int64))

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """`shape`, `range` and `conditions`, the same for every configuration."""
        return {"shape": _SHAPE, "range": _RANGE, "conditions": _CONDITIONS}

    @property
    def shape(self) -> tuple[int, ...]:
        """`(1, 8, 8)`."""
        return _SHAPE

    @property
    def range(self) -> DataRange | None:
        """[-1, 1]."""
        return _RANGE

    @property
    def conditions(self) -> Conditions:
        """`label`, of ten classes."""
        return _CONDITIONS

    def __len__(self) -> int:
        return self._images.shape[0]

    def batch(self, indices: Sequence[int]) -> Batch:
        """`x_0` `[b, 1, 8, 8]` in [-1, 1] and `label` `[b]`, int64."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        x_0: Tensor = self._images.index_select(0, rows).to(torch.float32).div_(8.0).sub_(1.0)
        return Batch(x_0, {"label": self._labels.index_select(0, rows)})


def _load() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            f"digits: the digits come with scikit-learn, which cannot be imported ({error}); "
            "install `diffkit[demo]`"
        ) from error
    digits = load_digits()
    return np.asarray(digits.images), np.asarray(digits.target)
