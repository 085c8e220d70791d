"""How verbs end where samples are not finite. Quick to import: click alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from diffkit.helpers.finite import Finite


def end_unless(finite: Finite, where: str) -> None:
    """End with exit code 1 where samples are not finite; `where` says what became of them.

    What could be written is written by then. Raises ClickException.
    """
    said = finite.said()
    if said is not None:
        raise click.ClickException(f"{said}. {where}")
