"""Live progress on a terminal; silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """One bar."""

    def update(self, done: float, text: str) -> None:
        """Show that so much of the total is done, and a few words."""


class _Silent:
    def update(self, done: float, text: str) -> None:
        """Show nothing."""


def _on_terminal(stream: object) -> bool:
    """Whether a stream is a terminal's. There may be none, or something else in its place."""
    try:
        return bool(getattr(stream, "isatty", lambda: False)())
    except (OSError, ValueError):
        return False  # It is closed.


@contextmanager
def bar(title: str, total: float, show: bool | None = None) -> Iterator[Progress]:
    """A bar for `total` units of work. `show=None`: only where standard error is a terminal."""
    if show is None:
        show = _on_terminal(sys.stderr)
    if not show:
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as rich:
        task = rich.add_task(title, total=total, text="")

        class Shown:
            def update(self, done: float, text: str) -> None:
                rich.update(task, completed=done, text=text)

        yield Shown()
