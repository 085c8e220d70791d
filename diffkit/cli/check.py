"""`diffkit check`: the conformance kit from the command line."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diffkit.arguments import expanded
from diffkit.cli.options import DEBUG, host_options, make_host, printable
from diffkit.cli.safely import try_components, try_files

if TYPE_CHECKING:
    from diffkit.testing.component_under_test import ComponentUnderTest
    from diffkit.testing.kit import Outcome

_FAILED = 1


@click.command("check")
@click.argument("what", nargs=-1, required=True, metavar="ID|PATTERN|FILE.py...")
@click.option("--kind", metavar="KIND", help="Only components of this kind.")
@click.option(
    "--config",
    metavar="YAML",
    help="The arguments to check with, where one component is named: '{steps: 100}'.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of everything random in the checks.",
)
@click.option("as_json", "--json", is_flag=True, help="Write JSON.")
@host_options
def command(
    what: tuple[str, ...],
    kind: str | None,
    config: str | None,
    seed: int,
    as_json: bool,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
) -> None:
    """Run the conformance kit on components.

    WHAT is a full id (acme.heun), a short name that only one has, a pattern of ids ('acme.*') or a
    Python file with component classes. A check that is skipped says nothing about the component:
    its reason is shown where the kit lacks something, and of all with --json. The exit code is 1
    where a check failed.
    """
    from diffkit.testing.kit import run_checks
    from diffkit.testing.report import Report, summary

    with contextlib.redirect_stdout(sys.stderr):
        found = _subjects(what, kind, config, disabled, plugin_files)
    outcomes = []
    report = Report(debug=bool(click.get_current_context().meta.get(DEBUG)))
    for outcome in _written_aside(run_checks(found, seed=seed)):
        outcomes.append(outcome)
        if not as_json:
            _echo(report.told(outcome))
    if as_json:
        click.echo(json.dumps([_record(outcome) for outcome in outcomes], indent=2))
    else:
        _echo([*report.ended(), summary(outcomes)])
    if any(outcome.status == "failed" for outcome in outcomes):
        raise click.exceptions.Exit(_FAILED)


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _written_aside(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """The same; what components print on the way goes to standard error."""
    while True:
        with contextlib.redirect_stdout(sys.stderr):
            outcome = next(outcomes, None)
        if outcome is None:
            return
        yield outcome


def _subjects(
    what: tuple[str, ...],
    kind: str | None,
    config: str | None,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
) -> list[ComponentUnderTest]:
    from diffkit.plugins.kinds import LOCAL
    from diffkit.testing.kit import components_of, named_entries

    files = tuple(expanded(name) for name in what if name.endswith(".py"))
    patterns = [name for name in what if not name.endswith(".py")]
    if files:
        patterns.append(f"{LOCAL}.*")
    try_files((*plugin_files, *files))
    host = make_host(disabled, (*plugin_files, *files))
    host.components(kind)  # Raises for a kind that there is not.
    named = named_entries(patterns, host)
    entries = {entry: at for entry, at in named.items() if kind in (None, entry.kind)}
    for problem in host.problems:
        click.echo(printable(f"problem: {problem}"), err=True)
    if not entries:
        raise click.UsageError(f"--kind {kind}: none of these components is of that kind")
    try_components(entries)
    if config is None:
        return components_of(entries)
    if len(entries) > 1:
        names = ", ".join(f"{entry.kind} {entry.id}" for entry in entries)
        raise click.UsageError(f"--config goes with one component, and these are {names}")
    (entry,) = entries
    return components_of(entries, configurations={entry.id: [_mapping(config)]})


def _mapping(text: str) -> dict[str, Any]:
    from diffkit.config.files import parse_yaml

    try:
        value = parse_yaml(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--config: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise click.UsageError("--config: it is a mapping of arguments, as '{steps: 100}'")
    return value


def _record(outcome: Outcome) -> dict[str, Any]:
    return {
        "kind": outcome.subject.kind,
        "id": outcome.subject.entry.id,
        "config": dict(outcome.subject.config),
        "check": outcome.check.name,
        "law": outcome.check.law,
        "status": outcome.status,
        "message": outcome.message,
        "seconds": round(outcome.seconds, 3),
    }
