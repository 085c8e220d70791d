"""Trying imports in a process of their own, before they are done in this one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from diffkit.errors import ComponentError
from diffkit.plugins.discovery import CORE
from diffkit.plugins.entries import ComponentEntry, Origin
from diffkit.plugins.probe import examine_alone

SECONDS = 60.0
"""How long the imports of one distribution, or of one file, may take."""
_LINES = 8


def try_files(files: Iterable[Path]) -> None:
    """Run each plugin file on its own. Raises ComponentError for one that crashes or hangs."""
    for file in files:
        if file.is_file():
            _try(f"the plugin file {file}", {"task": "file", "file": str(file.absolute())})


def try_components(entries: Iterable[ComponentEntry]) -> None:
    """Import components of others than diffkit, each distribution's in a process of its own.

    Raises:
        ComponentError: an import crashes or hangs. What merely raises is left for later.
    """
    found: dict[Origin, list[ComponentEntry]] = defaultdict(list)
    for entry in entries:
        if entry.origin.namespace != CORE and isinstance(entry.target, str):
            found[entry.origin].append(entry)
    for origin, mine in found.items():
        fields = [_fields(entry) for entry in mine]
        _try(str(origin), {"task": "imports", "components": fields})


def _try(what: str, task: dict[str, Any]) -> None:
    click.echo(f"importing {what} ...", err=True)
    found = examine_alone(task, timeout=SECONDS)
    if found.status in ("crashed", "hung"):
        written = "\n".join(f"  | {line}" for line in found.output.splitlines()[:_LINES])
        raise ComponentError(
            f"{what} cannot be checked: {found.message}; `diffkit doctor` says more"
            + (f"; it wrote:\n{written}" if written else "")
        )


def _fields(entry: ComponentEntry) -> dict[str, str]:
    origin = entry.origin
    return {
        "kind": entry.kind,
        "name": entry.name,
        "target": str(entry.target),
        "distribution": origin.distribution,
        "version": origin.version,
        "namespace": origin.namespace,
    }
