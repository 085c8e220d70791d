"""A bar where there is a terminal, and silence where there is something else, or nothing."""

from __future__ import annotations

import io
import sys

import pytest

from diffkit.helpers.progress import bar


class Closed(io.StringIO):
    def isatty(self) -> bool:
        raise ValueError("I/O operation on closed file")


class Writes:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None: ...


@pytest.mark.parametrize("stream", [None, Closed(), Writes(), io.StringIO()])
@pytest.mark.parametrize("show", [None, False, True])
def test_standard_error_may_be_anything(
    monkeypatch: pytest.MonkeyPatch, stream: object, show: bool | None
) -> None:
    if show and isinstance(stream, Closed):
        return  # What was asked for cannot be had.
    monkeypatch.setattr(sys, "stderr", stream)
    with bar("sampling", 1.0, show) as shown:
        shown.update(0.5, "half")
