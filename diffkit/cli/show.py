"""`diffkit show`: one component, explained."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import click

from diffkit.cli.options import host_options, make_host


@click.command("show")
@click.argument("kind")
@click.argument("name")
@click.option("as_json", "--json", is_flag=True, help="Write the JSON schema of its arguments.")
@host_options
def command(
    kind: str, name: str, as_json: bool, disabled: tuple[str, ...], plugin_files: tuple[Path, ...]
) -> None:
    """Describe the component NAME of the kind KIND: what it does, and what it takes."""
    from diffkit.cli.schema import described
    from diffkit.config.signature import signature_of

    host = make_host(disabled, plugin_files)
    entry = host.find(kind, name)
    component = host.load(entry)
    signature = signature_of(component, host)
    schema = signature.model.model_json_schema()
    if as_json:
        click.echo(json.dumps(schema, indent=2))
        return
    click.echo(f"{entry.kind} {entry.id}")
    click.echo(f"from {entry.origin}, {component.__module__}:{component.__qualname__}\n")
    click.echo(inspect.getdoc(component) or "(no docstring)")
    for title, lines in described(schema, signature.supplied, signature.in_code):
        click.echo(f"\n{title}:")
        for line in lines:
            click.echo(f"  {line}")
