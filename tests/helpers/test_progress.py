"""A bar where there is a terminal, and silence where there is something else, or nothing."""

from __future__ import annotations

import io
import sys

import pytest

from diffkit.helpers.progress import bar


class Closed(io.StringIO):
    def isatty(self) -> bool:
        raise ValueError("I/O operation on closed file")

    def write(self, text: str) -> int:
        raise ValueError("I/O operation on closed file")


class Writes:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def half_done(monkeypatch: pytest.MonkeyPatch, stream: object, show: bool | None) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with bar("sampling", 1.0, show) as shown:
        shown.update(0.5, "half")


@pytest.mark.parametrize("show", [None, False])
@pytest.mark.parametrize("make", [lambda: None, Closed, Writes, io.StringIO])
def test_what_is_no_terminal_stays_silent(monkeypatch, make, show) -> None:
    stream = make()
    half_done(monkeypatch, stream, show)
    written = stream.text if isinstance(stream, Writes) else getattr(stream, "getvalue", str)()
    assert written == ""


@pytest.mark.parametrize("make", [Writes, io.StringIO])
def test_a_bar_that_is_asked_for_is_written_anywhere(monkeypatch, make) -> None:
    stream = make()
    half_done(monkeypatch, stream, True)
    written = stream.text if isinstance(stream, Writes) else stream.getvalue()
    assert "sampling" in written
    assert "half" in written


def test_without_standard_error_a_bar_that_is_asked_for_is_written_nowhere(
    monkeypatch, capsys
) -> None:
    half_done(monkeypatch, None, True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("show", "there"), [(None, True), (False, False)])
def test_a_terminal_has_a_bar_unless_it_is_not_wanted(monkeypatch, show, there) -> None:
    stream = Terminal()
    half_done(monkeypatch, stream, show)
    assert ("half" in stream.getvalue()) == there
