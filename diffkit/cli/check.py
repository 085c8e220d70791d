"""`diffkit check`: the conformance kit from the command line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diffkit.cli.options import host_options, make_host

if TYPE_CHECKING:
    from diffkit.testing.kit import Outcome
    from diffkit.testing.subject import Subject

_FAILED = 1
_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "-"}


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

    WHAT is a full id (acme.heun), a pattern of ids ('acme.*') or a Python file with component
    classes. A check that is skipped says nothing about the component; with --json its reason is
    shown. The exit code is 1 where a check failed.
    """
    from diffkit.testing.kit import run_checks

    found = _subjects(what, kind, config, disabled, plugin_files)
    outcomes = []
    for outcome in run_checks(found, seed=seed):
        outcomes.append(outcome)
        if not as_json:
            _show(outcome, first=len(outcomes) < 2 or outcomes[-2].subject != outcome.subject)
    if as_json:
        click.echo(json.dumps([_record(outcome) for outcome in outcomes], indent=2))
    else:
        click.echo(_summary(outcomes))
    if any(outcome.status == "failed" for outcome in outcomes):
        raise click.exceptions.Exit(_FAILED)


def _subjects(
    what: tuple[str, ...],
    kind: str | None,
    config: str | None,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
) -> list[Subject]:
    from diffkit.plugins.kinds import LOCAL
    from diffkit.testing.kit import subjects

    files = tuple(Path(name) for name in what if name.endswith(".py"))
    patterns = [name for name in what if not name.endswith(".py")]
    if files:
        patterns.append(f"{LOCAL}.*")
    host = make_host(disabled, (*plugin_files, *files))
    found = [s for s in subjects(patterns, host=host) if kind in (None, s.kind)]
    if not found:
        raise click.UsageError(f"--kind {kind}: none of these components is of that kind")
    if config is None:
        return found
    if len(found) > 1:
        names = ", ".join(f"{s.kind} {s.entry.id}" for s in found)
        raise click.UsageError(f"--config goes with one component, and these are {names}")
    given = _mapping(config)
    entry = found[0].entry
    return [
        s
        for s in subjects(entry.id, configurations={entry.id: [given]}, host=host)
        if s.kind == entry.kind
    ]


def _mapping(text: str) -> dict[str, Any]:
    import yaml

    from diffkit.spec.files import parse_yaml

    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise click.UsageError(f"--config: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise click.UsageError("--config: it is a mapping of arguments, as '{steps: 100}'")
    return value


def _show(outcome: Outcome, *, first: bool) -> None:
    if first:
        click.echo(f"{outcome.subject.kind} {outcome.subject}")
    click.echo(f"  {_MARKS[outcome.status]:<7}{outcome.check.law}")
    if outcome.status == "failed":
        for line in outcome.message.splitlines()[1:]:
            click.echo(f"         {line}")


def _summary(outcomes: Sequence[Outcome]) -> str:
    count = Counter(outcome.status for outcome in outcomes)
    components = len({(o.subject.kind, str(o.subject)) for o in outcomes})
    seconds = sum(outcome.seconds for outcome in outcomes)
    return (
        f"\n{components} checked: {count['passed']} passed, {count['failed']} failed, "
        f"{count['skipped']} not applicable, in {seconds:.1f} s"
    )


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
