"""Text as tensors."""

from __future__ import annotations

import pytest
import torch

from diffkit import as_text
from diffkit.core.text import as_strings
from diffkit.errors import DataError

TEXTS = ["", "a cat", "café", "猫", "x" * 256]


def test_strings_come_back() -> None:
    assert as_strings(as_text(TEXTS)) == TEXTS
    assert as_text(TEXTS).dtype == torch.uint8
    assert as_text(TEXTS).shape == (5, 256)


@pytest.mark.parametrize(
    ("text", "message"), [("x" * 257, "longer than 256 bytes"), ("a\0b", "holds a zero byte")]
)
def test_what_does_not_fit_is_refused(text, message) -> None:
    with pytest.raises(DataError, match=message):
        as_text([text])


@pytest.mark.parametrize(
    "rows", [torch.zeros(2, 3), torch.zeros(3, dtype=torch.uint8)], ids=["float", "flat"]
)
def test_what_is_no_text_is_refused(rows) -> None:
    with pytest.raises(DataError, match=r"diffkit\.as_text"):
        as_strings(rows)


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(DataError, match="not UTF-8"):
        as_strings(torch.full((1, 3), 255, dtype=torch.uint8))
