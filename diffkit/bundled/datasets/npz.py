"""NumPy's .npz archives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, final

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from diffkit.bundled.datasets.npz_arrays import read_array, read_header
from diffkit.core.component import Config
from diffkit.core.data import ConditionInfo, Conditions, DataType
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import DataRange
from diffkit.core.loss import Batch
from diffkit.errors import DataError

_PIXEL_RANGE = (-1.0, 1.0)
Channels = Literal["first", "last"]


@final
class Npz(Dataset):
    """Samples, labels as the condition `label`, and other conditions, from one .npz archive.

    uint8 arrays are pixels: 0 to 255 become [-1, 1], the declared range. Floating-point arrays
    are taken as they are, with no declared range: points, latents, scaled images. With a
    `vocabulary`, whole numbers are tokens, and stay so. The archive is read as plain numbers;
    pickled objects are refused, so that no code in it ever runs.

    Args:
        path: the archive, as `numpy.savez` or `numpy.savez_compressed` write it.
        images: the name of the array of samples. Pixels are `(n, channels, height, width)` or
            `(n, height, width)`, which are taken as one channel; floats are `(n, ...)`, any
            shape. Arrays that were saved without a name are called `arr_0`, `arr_1` ...
        labels: the name of the array of labels, whole numbers from 0, `(n,)` or `(n, 1)`. None
            gives no condition.
        channels: `last` for arrays of rank 4 that are `(n, height, width, channels)`.
        vocabulary: how many different tokens there are: samples are whole numbers from 0 to one
            less. None: they are no tokens.
        conditions: the names of further arrays, `(n, ...)`, each given as the condition of that
            name: pixels, floating-point numbers or whole ones, read like samples; whole ones are
            int64.

    Raises:
        DataError: the archive is missing or damaged, an array is missing, empty, pickled, of
            another type or shape, not finite, or there are not as many labels as samples.
    """

    def __init__(
        self,
        *,
        path: str,
        images: str = "images",
        labels: str | None = None,
        channels: Channels = "first",
        vocabulary: Annotated[int, Ge(1)] | None = None,
        conditions: tuple[str, ...] = (),
    ) -> None:
        facts = _check_headers(path, images, labels, channels, vocabulary, conditions)
        self._conditions: Conditions = facts["conditions"]
        where = f"npz: {images!r} in {path}"
        self._vocabulary = vocabulary
        if vocabulary is None:
            self._samples = _as_samples(read_array(path, images), where, channels)
        else:
            self._samples = _as_tokens(read_array(path, images), where, vocabulary)
        self._pixels = self._samples.dtype == torch.uint8
        self._beside = {name: _as_condition(path, name, channels) for name in conditions}
        if labels is not None:
            self._beside["label"] = _as_labels(path, labels)

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """`shape`, `range` (None for floats), `dtype`, `vocabulary` and `conditions`, from the
        headers alone.
        """
        return _check_headers(
            config.path,
            config.images,
            config.labels,
            config.channels,
            config.vocabulary,
            config.conditions,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample; `(channels, height, width)` for pixels."""
        return tuple(self._samples.shape[1:])

    @property
    def range(self) -> DataRange | None:
        """[-1, 1] for pixels, unknown for floats."""
        return _PIXEL_RANGE if self._pixels else None

    @property
    def dtype(self) -> DataType:
        """int64 for tokens, float32 for everything else."""
        return "float32" if self._vocabulary is None else "int64"

    @property
    def vocabulary(self) -> int | None:
        """How many tokens there are, where samples are tokens."""
        return self._vocabulary

    @property
    def conditions(self) -> Conditions:
        """`label`, where there are labels, and those that were named."""
        return self._conditions

    def __len__(self) -> int:
        return self._samples.shape[0]

    def batch(self, indices: Sequence[int]) -> Batch:
        """`x_0` `[b, *shape]`, float32, or int64 for tokens, and the conditions: `label` `[b]`,
        int64, where there are labels.
        """
        rows = torch.as_tensor(indices, dtype=torch.int64)
        x_0 = self._samples.index_select(0, rows)
        told = {name: value.index_select(0, rows) for name, value in self._beside.items()}
        return Batch(_scaled(x_0), {name: _scaled(value) for name, value in told.items()})


def _scaled(value: Tensor) -> Tensor:
    """Pixels in [-1, 1]; anything else as it is."""
    return value.to(torch.float32).div_(127.5).sub_(1.0) if value.dtype == torch.uint8 else value


def _check_headers(
    path: str,
    images: str,
    labels: str | None,
    channels: Channels,
    vocabulary: int | None,
    conditions: Sequence[str],
) -> dict[str, Any]:
    """The facts, once all headers are right."""
    sizes, dtype = read_header(path, images)
    where = f"npz: {images!r} in {path}"
    if vocabulary is None:
        shape = _sample_shape(sizes, dtype, where, channels)
    else:
        shape = _token_shape(sizes, dtype, where)
    told: dict[str, ConditionInfo] = {}
    for name in conditions:
        told[name] = _condition_info(path, name, sizes[0], channels)
    if labels is not None:
        if "label" in told:
            raise DataError(
                f"npz: labels and conditions both give a condition 'label' of {path}; name the "
                "array in one of them"
            )
        told["label"] = ConditionInfo(dtype="int64")
        found, label_dtype = read_header(path, labels)
        where = f"npz: {labels!r} in {path}"
        if label_dtype.kind not in "iu" or found not in ((sizes[0],), (sizes[0], 1)):
            raise DataError(
                f"{where} is {label_dtype} {found}; labels are whole numbers, one for each of "
                f"the {sizes[0]} samples: ({sizes[0]},)"
            )
    return {
        "shape": shape,
        "range": _PIXEL_RANGE if vocabulary is None and dtype == np.uint8 else None,
        "dtype": "float32" if vocabulary is None else "int64",
        "vocabulary": vocabulary,
        "conditions": told,
    }


def _token_shape(sizes: tuple[int, ...], dtype: np.dtype[Any], where: str) -> tuple[int, ...]:
    if dtype.kind not in "iu" or len(sizes) < 2 or any(size < 1 for size in sizes):
        raise DataError(
            f"{where} is {dtype} {sizes}, and a vocabulary is given: tokens are whole numbers, "
            "(n, length); save them so, or leave vocabulary out"
        )
    return sizes[1:]


def _as_tokens(array: np.ndarray, where: str, vocabulary: int) -> Tensor:
    """`[n, *shape]`, int64, from 0 to `vocabulary - 1`."""
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= vocabulary:
        raise DataError(
            f"{where} has tokens from {low} to {high}, and the vocabulary is {vocabulary}: 0 to "
            f"{vocabulary - 1}; give a larger vocabulary, or other tokens"
        )
    return torch.from_numpy(array.astype(np.int64))


def _condition_info(path: str, name: str, count: int, channels: Channels) -> ConditionInfo:
    """What the header says of an array that is a condition."""
    sizes, dtype = read_header(path, name)
    where = f"npz: {name!r} in {path}"
    if dtype.kind not in "iuf" or sizes[:1] != (count,) or 0 in sizes:
        raise DataError(
            f"{where} is {dtype} {sizes}; a condition is numbers, one row for each of the {count} "
            "samples"
        )
    if dtype == np.uint8 and len(sizes) in (3, 4):
        return ConditionInfo(shape=_sample_shape(sizes, dtype, where, channels), picture=True)
    return ConditionInfo(shape=sizes[1:], dtype="int64" if dtype.kind in "iu" else "float32")


def _as_condition(path: str, name: str, channels: Channels) -> Tensor:
    """`[n, ...]`: uint8 pixels, float32 or int64."""
    array = read_array(path, name)
    if array.dtype.kind in "iu" and not (array.dtype == np.uint8 and array.ndim in (3, 4)):
        return torch.from_numpy(array.astype(np.int64))
    if array.dtype == np.uint8:
        return _as_samples(array, f"npz: {name!r} in {path}", channels)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _sample_shape(
    sizes: tuple[int, ...], dtype: np.dtype[Any], where: str, channels: Channels
) -> tuple[int, ...]:
    """The shape of one sample of an array `sizes`, channels first."""
    pixels = dtype == np.uint8
    if not pixels and dtype.kind != "f":
        raise DataError(
            f"{where} is {dtype}; save pixels as uint8 (0 to 255) and everything else as float32"
        )
    if any(size < 1 for size in sizes):
        raise DataError(f"{where} is empty: its shape is {sizes}")
    if pixels and len(sizes) not in (3, 4):
        raise DataError(
            f"{where} has the shape {sizes}; pixels are (n, height, width) or "
            "(n, channels, height, width); save what is not an image as float32"
        )
    if len(sizes) < 2:
        raise DataError(
            f"{where} has the shape {sizes}; the first dimension counts the samples and at "
            "least one more is needed: reshape single numbers to (n, 1)"
        )
    if channels == "last":
        if len(sizes) != 4:
            raise DataError(
                f"{where} has the shape {sizes}, but channels = 'last' is for rank 4, "
                "(n, height, width, channels); leave it out"
            )
        return (sizes[3], sizes[1], sizes[2])
    if pixels and len(sizes) == 4 and sizes[1] > 4 and sizes[3] <= 4:
        raise DataError(
            f"{where} has the shape {sizes}, which looks like (n, height, width, channels); "
            "set channels to 'last', or save it as (n, channels, height, width)"
        )
    return (1, *sizes[1:]) if pixels and len(sizes) == 3 else sizes[1:]


def _as_samples(array: np.ndarray, where: str, channels: Channels) -> Tensor:
    """`[n, *shape]`, uint8 for pixels and finite float32 for the rest."""
    shape = _sample_shape(array.shape, array.dtype, where, channels)
    if channels == "last":
        array = np.moveaxis(array, -1, 1)
    if array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array).reshape(-1, *shape))
    with np.errstate(over="ignore"):
        samples = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    broken = ~samples.flatten(1).isfinite().all(1)
    if bool(broken.any()):
        raise DataError(
            f"{where} has numbers that are not finite in float32, in {int(broken.sum())} of its "
            f"{len(samples)} samples, sample {int(broken.nonzero()[0])} first; remove those"
        )
    return samples


def _as_labels(path: str, name: str) -> Tensor:
    """`[n]`, int64, none negative."""
    array = read_array(path, name).reshape(-1)
    if int(array.min()) < 0 or int(array.max()) > np.iinfo(np.int64).max:
        raise DataError(
            f"npz: {name!r} in {path} has labels from {array.min()} to {array.max()}; "
            "labels count from 0"
        )
    return torch.from_numpy(array.astype(np.int64))
