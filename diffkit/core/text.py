"""Text as a condition: UTF-8 bytes in rows of one length, since conditions are tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.arguments import instance, several, whole
from diffkit.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import UInt8

TEXT_LENGTH = 256
"""The bytes of a row, unless another length is asked for."""


def as_text(texts: Sequence[str], length: int = TEXT_LENGTH) -> UInt8[Tensor, "b length"]:
    """The UTF-8 bytes of each text, with zeros behind. `as_strings` is the inverse.

    Raises DataError where a text is longer than `length` bytes, or holds a zero byte.
    """
    texts = several(texts, "texts", "strings,")
    length = whole(length, "length", least=1)
    for text in texts:
        instance(text, "texts", str, "strings")
    rows = torch.zeros(len(texts), length, dtype=torch.uint8)
    for row, text in zip(rows, texts, strict=True):
        data = _bytes_of(text)
        if len(data) > length or 0 in data:
            reason = "holds a zero byte" if 0 in data else f"is longer than {length} bytes"
            raise DataError(f"the text {text[:60]!r} {reason}; shorten it, or clean it")
        row[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else 0
    return rows


def _bytes_of(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"the text {text[:60]!r} holds half of a character; clean it") from error


def as_strings(text: UInt8[Tensor, "b length"]) -> list[str]:
    """The texts of rows that `as_text` made. Raises DataError where they are none."""
    if text.dtype != torch.uint8 or text.ndim != 2:
        raise DataError(
            f"text is uint8 [b, length], UTF-8 with zeros behind, not {text.dtype} of the shape "
            f"{list(text.shape)}; make it with diffkit.as_text"
        )
    try:
        return [bytes(row.tolist()).rstrip(b"\0").decode("utf-8") for row in text.cpu()]
    except UnicodeDecodeError as error:
        raise DataError(f"text is not UTF-8: {error}; make it with diffkit.as_text") from error
