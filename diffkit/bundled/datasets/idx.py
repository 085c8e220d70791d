"""The idx files of MNIST and of the datasets made in its image."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast, final

import numpy as np
import torch
from torch import Tensor

from diffkit.arguments import expanded
from diffkit.core.component import Config
from diffkit.core.data import ConditionInfo, Conditions
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import DataRange
from diffkit.core.loss import Batch
from diffkit.core.text import TEXT_LENGTH, as_text
from diffkit.errors import DataError

_RANGE = (-1.0, 1.0)
_GZIP = b"\x1f\x8b"
_UINT8 = 0x08
_OTHER_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_CHUNK = 1 << 20


@final
class Idx(Dataset):
    """Images, and labels as the condition `label`, in idx files: MNIST, Fashion-MNIST, EMNIST.

    An idx file is two zero bytes, a type code, the rank, one big-endian 32-bit size for each
    dimension, and the items (LeCun, Cortes & Burges, "The MNIST database"). Files may be gzipped;
    their first bytes tell, whatever they are called. Pixels 0 to 255 become [-1, 1].

    Args:
        images: the file of images, bytes: `(n, height, width)`, which are taken as one channel,
            or `(n, channels, height, width)`.
        labels: the file of labels, bytes: `(n,)`. None gives no condition.
        captions: a text for each label, from 0 on, which is given as the condition `caption`
            beside it: `["a photo of a zero", ...]`. None gives no captions.

    Raises:
        DataError: a file is missing, damaged, not of this format, empty, longer or shorter than
            its header says; there are not as many labels as images; or there is a label without a
            caption.
    """

    def __init__(
        self,
        *,
        images: str,
        labels: str | None = None,
        captions: tuple[str, ...] | None = None,
    ) -> None:
        _check_headers(images, labels)
        pixels = _read(images)
        self._images = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels
        self._labels = None if labels is None else _read(labels).to(torch.int64)
        self._captions = None if captions is None else as_text(captions)
        self._conditions = _conditions(labels, captions)
        if self._captions is not None:
            _check_captions(self._labels, len(self._captions))

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """`shape`, `range` and `conditions`, from the headers alone."""
        shape = _check_headers(config.images, config.labels)
        if config.captions is not None and config.labels is None:
            raise DataError("idx: captions are for labels, and no file of labels is given")
        conditions = _conditions(config.labels, config.captions)
        return {"shape": shape, "range": _RANGE, "conditions": conditions}

    @property
    def shape(self) -> tuple[int, ...]:
        """`(channels, height, width)`."""
        return tuple(self._images.shape[1:])

    @property
    def range(self) -> DataRange | None:
        """[-1, 1]."""
        return _RANGE

    @property
    def conditions(self) -> Conditions:
        """`label` and `caption`, where there are such."""
        return self._conditions

    def __len__(self) -> int:
        return self._images.shape[0]

    def batch(self, indices: Sequence[int]) -> Batch:
        """`x_0` `[b, c, h, w]` in [-1, 1] and, where there are any, `label` `[b]`, int64, and
        `caption` `[b, length]`, uint8.
        """
        rows = torch.as_tensor(indices, dtype=torch.int64)
        x_0 = self._images.index_select(0, rows).to(torch.float32).div_(127.5).sub_(1.0)
        if self._labels is None:
            return Batch(x_0)
        condition = {"label": self._labels.index_select(0, rows)}
        if self._captions is not None:
            condition["caption"] = self._captions.index_select(0, condition["label"])
        return Batch(x_0, condition)


def _conditions(labels: str | None, captions: Sequence[str] | None) -> Conditions:
    """What there is beside the images. How many classes, only the captions say."""
    if labels is None:
        return {}
    classes = None if captions is None else len(captions)
    label = ConditionInfo(dtype="int64", classes=classes)
    if captions is None:
        return {"label": label}
    return {
        "label": label,
        "caption": ConditionInfo(shape=(TEXT_LENGTH,), dtype="uint8", text=True),
    }


def _check_captions(labels: Tensor | None, count: int) -> None:
    if labels is None:
        raise DataError("idx: captions are for labels, and no file of labels is given")
    largest = int(labels.max())
    if largest >= count:
        raise DataError(
            f"idx: there are {count} captions, for the labels 0 to {count - 1}, and a label is "
            f"{largest}; give one for each label"
        )


def _check_headers(images: str, labels: str | None) -> tuple[int, ...]:
    """The shape of one image, once both headers are right and agree."""
    with _opened(images) as stream:
        sizes = _read_sizes(stream, images)
    if len(sizes) not in (3, 4):
        hint = "; is this the file of labels?" if len(sizes) == 1 else ""
        raise DataError(
            f"idx: {images} has rank {len(sizes)} {sizes}; images have rank 3 (n, height, width) "
            f"or 4 (n, channels, height, width){hint}"
        )
    if labels is not None:
        with _opened(labels) as stream:
            found = _read_sizes(stream, labels)
        if len(found) != 1:
            hint = "; is this the file of images?" if len(found) in (3, 4) else ""
            raise DataError(f"idx: {labels} has rank {len(found)} {found}; labels have 1{hint}")
        if found[0] != sizes[0]:
            raise DataError(
                f"idx: {labels} has {found[0]} labels for the {sizes[0]} images in {images}; "
                "give the two files of one set"
            )
    return (1, *sizes[1:]) if len(sizes) == 3 else sizes[1:]


def _read(path: str) -> Tensor:
    """The items of a file, uint8, of the shape in its header."""
    with _opened(path) as stream:
        sizes = _read_sizes(stream, path)
        expected = math.prod(sizes)
        # Grown as bytes arrive: a header that claims terabytes must not allocate them.
        body = bytearray()
        while len(body) <= expected:
            chunk = stream.read(min(_CHUNK, expected + 1 - len(body)))
            if not chunk:
                break
            body += chunk
    if len(body) > expected:
        raise DataError(
            f"idx: {path} goes on after the {expected} bytes of {sizes} that its header "
            "declares; it is not one whole idx file, get it again"
        )
    if len(body) < expected:
        raise DataError(
            f"idx: {path} ends after {len(body)} of the {expected} bytes of {sizes} that its "
            "header declares; it is truncated, get it again"
        )
    return torch.from_numpy(np.frombuffer(body, dtype=np.uint8).reshape(sizes))


def _read_sizes(stream: BinaryIO, path: str) -> tuple[int, ...]:
    """The sizes in the header, all at least 1; leaves `stream` at the first item."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        start = magic.hex(" ") or "nothing"
        raise DataError(
            f"idx: {path} starts with {start}; an idx file starts with two zero bytes, "
            "a type code and a rank (00 00 08 03 for MNIST's images)"
        )
    code, rank = magic[2], magic[3]
    if code != _UINT8:
        name = _OTHER_TYPES.get(code, "no known type")
        raise DataError(
            f"idx: {path} has the type code 0x{code:02x} ({name}); only 0x08 (bytes) is read; "
            "convert it to bytes, or use npz for numbers of another type"
        )
    header = stream.read(4 * rank)
    if rank == 0 or len(header) < 4 * rank:
        raise DataError(
            f"idx: {path} ends within its header: rank {rank} and {len(header)} bytes of sizes, "
            "where 4 for each dimension are expected; it is damaged, get it again"
        )
    sizes = struct.unpack(f">{rank}I", header)
    if 0 in sizes:
        raise DataError(f"idx: {path} is empty: its header declares {sizes}, all must be above 0")
    return sizes


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """The content of a file, unpacked where it is gzipped; failures to read become DataErrors."""
    try:
        with open(expanded(path), "rb") as raw:
            packed = raw.read(len(_GZIP)) == _GZIP
            raw.seek(0)
            if not packed:
                yield raw
                return
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(BinaryIO, stream)
    except FileNotFoundError as error:
        raise DataError(f"idx: {path} does not exist; check the path") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"idx: {path} is damaged gzip ({error}); get it again") from error
    except OSError as error:
        raise DataError(f"idx: {path} cannot be read: {error.strerror or error}") from error
