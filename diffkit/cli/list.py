"""`diffkit list`: what is installed, read from metadata alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click

from diffkit.cli.options import host_options, make_host, printable
from diffkit.plugins.entries import ComponentEntry

_HEADER = ("KIND", "NAME", "ID", "DISTRIBUTION", "VERSION")


@click.command("list")
@click.option("--kind", metavar="KIND", help="Only this kind: sampler, schedule, model ...")
@click.option("as_json", "--json", is_flag=True, help="Write JSON.")
@host_options
def command(
    kind: str | None, as_json: bool, disabled: tuple[str, ...], plugin_files: tuple[Path, ...]
) -> None:
    """List the components that are installed, without importing any.

    NAME is the short name, where no other component of the kind has it; the ID always works.
    Problems with plugins go to standard error.
    """
    host = make_host(disabled, plugin_files)
    entries = host.components(kind)
    if as_json:
        click.echo(json.dumps([_record(entry) for entry in entries], indent=2))
    else:
        for line in _table(entries):
            click.echo(line)
    for problem in host.problems:
        click.echo(printable(f"problem: {problem}"), err=True)


def _record(entry: ComponentEntry) -> dict[str, str | None]:
    origin = entry.origin
    return {
        "kind": entry.kind,
        "name": entry.name,
        "id": entry.id,
        "distribution": origin.distribution,
        "version": origin.version,
        "sha256": origin.sha256,
    }


def _table(entries: tuple[ComponentEntry, ...]) -> list[str]:
    """Aligned plain columns."""
    shared = Counter((entry.kind, entry.name) for entry in entries)
    rows = [_HEADER]
    for entry in entries:
        short = entry.name if shared[entry.kind, entry.name] == 1 else "-"
        origin = entry.origin
        rows.append((entry.kind, short, entry.id, origin.distribution, origin.version or "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
