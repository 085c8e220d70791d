"""How verbs end: early, keeping what they have; and where samples are not finite.

Quick to import: click alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from diffkit.errors import CheckpointError, DiffkitError

if TYPE_CHECKING:
    from diffkit.helpers.finite import Finite
    from diffkit.helpers.interruption import Request


@contextmanager
def what_is_there_kept(out: Path, write: Callable[[], object]) -> Iterator[None]:
    """Write what was learned until an error, which is then told, and where that is."""
    try:
        yield
    except CheckpointError:
        raise
    except DiffkitError as error:
        try:
            write()
        except (DiffkitError, LookupError) as another:
            error.add_note(f"What was learned until then could not be kept: {another}")
        else:
            error.add_note(f"What was learned until then is in {out}")
        raise


def end_if_asked(request: Request) -> None:
    """Exit as a process that a signal ended does, where one asked for it."""
    if request.signal is not None:
        click.echo(f"ended early by {request.signal.name}; what it had learned is kept", err=True)
        raise click.exceptions.Exit(128 + request.signal)


def end_unless(finite: Finite, where: str) -> None:
    """End with exit code 1 where samples are not finite; `where` says what became of them.

    What could be written is written by then. Raises ClickException.
    """
    said = finite.said()
    if said is not None:
        raise click.ClickException(f"{said}. {where}")
