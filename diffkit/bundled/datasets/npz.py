"""NumPy's .npz archives."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from diffkit.arguments import expanded
from diffkit.core.component import Config
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import DataRange
from diffkit.core.loss import Batch
from diffkit.errors import DataError

_PIXEL_RANGE = (-1.0, 1.0)
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
Channels = Literal["first", "last"]


@final
class Npz(Dataset):
    """Samples, and labels as the condition `label`, from two arrays of one .npz archive.

    uint8 arrays are pixels: 0 to 255 become [-1, 1], the declared range. Floating-point arrays
    are taken as they are, with no declared range: points, latents, scaled images. The archive is
    read as plain numbers; pickled objects are refused, so that no code in it ever runs.

    Args:
        path: the archive, as `numpy.savez` or `numpy.savez_compressed` write it.
        images: the name of the array of samples. Pixels are `(n, channels, height, width)` or
            `(n, height, width)`, which are taken as one channel; floats are `(n, ...)`, any
            shape. Arrays that were saved without a name are called `arr_0`, `arr_1` ...
        labels: the name of the array of labels, whole numbers from 0, `(n,)` or `(n, 1)`. None
            gives no condition.
        channels: `last` for arrays of rank 4 that are `(n, height, width, channels)`.

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
    ) -> None:
        _check_headers(path, images, labels, channels)
        self._samples = _as_samples(_read(path, images), f"npz: {images!r} in {path}", channels)
        self._labels = None if labels is None else _as_labels(path, labels)
        self._pixels = self._samples.dtype == torch.uint8

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """`shape` and `range` (None for floats), from the headers alone."""
        shape, dtype = _check_headers(config.path, config.images, config.labels, config.channels)
        return {"shape": shape, "range": _PIXEL_RANGE if dtype == np.uint8 else None}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample; `(channels, height, width)` for pixels."""
        return tuple(self._samples.shape[1:])

    @property
    def range(self) -> DataRange | None:
        """[-1, 1] for pixels, unknown for floats."""
        return _PIXEL_RANGE if self._pixels else None

    def __len__(self) -> int:
        return self._samples.shape[0]

    def batch(self, indices: Sequence[int]) -> Batch:
        """`x_0` `[b, *shape]`, float32, and, where there are labels, `label` `[b]`, int64."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        x_0 = self._samples.index_select(0, rows)
        if self._pixels:
            x_0 = x_0.to(torch.float32).div_(127.5).sub_(1.0)
        if self._labels is None:
            return Batch(x_0)
        return Batch(x_0, {"label": self._labels.index_select(0, rows)})


def _check_headers(
    path: str, images: str, labels: str | None, channels: Channels
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape of one sample and the type of the array, once both headers are right."""
    sizes, dtype = _read_header(path, images)
    shape = _sample_shape(sizes, dtype, f"npz: {images!r} in {path}", channels)
    if labels is not None:
        found, label_dtype = _read_header(path, labels)
        where = f"npz: {labels!r} in {path}"
        if label_dtype.kind not in "iu" or found not in ((sizes[0],), (sizes[0], 1)):
            raise DataError(
                f"{where} is {label_dtype} {found}; labels are whole numbers, one for each of "
                f"the {sizes[0]} samples: ({sizes[0]},)"
            )
    return shape, dtype


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
    array = _read(path, name).reshape(-1)
    if int(array.min()) < 0 or int(array.max()) > np.iinfo(np.int64).max:
        raise DataError(
            f"npz: {name!r} in {path} has labels from {array.min()} to {array.max()}; "
            "labels count from 0"
        )
    return torch.from_numpy(array.astype(np.int64))


def _read(path: str, name: str) -> np.ndarray:
    """A whole array."""
    with _opened(path, name) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        # The checksum is compared at the end of the member, which this reaches.
        if stream.read(1):
            raise DataError(
                f"npz: {name!r} in {path} goes on after the {array.nbytes} bytes that its header "
                "declares; it is damaged, save it again"
            )
    return array


def _read_header(path: str, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type of an array that is made of plain numbers."""
    with _opened(path, name) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            sizes, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            sizes, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise DataError(
                f"npz: {name!r} in {path} is of the .npy version {version}, which is for arrays "
                "with named fields; save a plain array of numbers"
            )
    if dtype.hasobject:
        raise DataError(
            f"npz: {name!r} in {path} holds pickled Python objects, which are never loaded, since "
            "that can run any code; save a plain array of numbers, all samples of one shape"
        )
    return sizes, dtype


@contextmanager
def _opened(path: str, name: str) -> Iterator[IO[bytes]]:
    """The .npy file of one array; failures to read become DataErrors."""
    try:
        with zipfile.ZipFile(expanded(path)) as archive:
            members = archive.namelist()
            if f"{name}.npy" not in members:
                names = ", ".join(sorted(m.removesuffix(".npy") for m in members)) or "nothing"
                raise DataError(f"npz: {path} has no array {name!r}; it has: {names}")
            if archive.getinfo(f"{name}.npy").compress_type not in _COMPRESSIONS:
                raise DataError(
                    f"npz: {name!r} in {path} is compressed in a way that NumPy does not use; "
                    "write it again with numpy.savez_compressed"
                )
            with archive.open(f"{name}.npy") as stream:
                yield stream
    except FileNotFoundError as error:
        raise DataError(f"npz: {path} does not exist; check the path") from error
    except OSError as error:
        raise DataError(f"npz: {path} cannot be read: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        raise DataError(
            f"npz: {path} is not an .npz archive, or a damaged one ({error}); "
            "write it with numpy.savez"
        ) from error
    # RuntimeError: an encrypted member. MemoryError: a header that claims what no machine holds.
    except (ValueError, TypeError, EOFError, zlib.error, RuntimeError, MemoryError) as error:
        raise DataError(
            f"npz: {name!r} in {path} cannot be read as a plain array ({error}); "
            "write it again with numpy.savez"
        ) from error
