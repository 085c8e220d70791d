"""`diffkit doctor`: does everything that is installed work?"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from diffkit import __version__
from diffkit.cli.options import host_options, printable
from diffkit.plugins.doctor import Diagnosis, Finding, diagnose

UNHEALTHY = 1
"""The exit code where something is wrong with a plugin."""
_HEADER = ("STATUS", "KIND", "ID", "DISTRIBUTION", "VERSION")
_LINES = 16
_IMPORTING = "<frozen importlib"


@click.command("doctor")
@click.option("as_json", "--json", is_flag=True, help="Write JSON.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds that each import may take.",
)
@host_options
def command(
    as_json: bool, timeout: float, disabled: tuple[str, ...], plugin_files: tuple[Path, ...]
) -> None:
    """Import every plugin in a process of its own, and say what is wrong and what to do.

    A plugin that crashes or hangs there is reported, and hurts nothing else. The exit code is 0
    if all is well, and 1 if something is wrong.
    """
    for file in plugin_files:
        if not file.is_file():
            raise click.UsageError(f"the plugin file {file} cannot be read: no such file")
    click.echo("importing every plugin in a process of its own ...", err=True)
    found = diagnose(disabled=disabled, plugin_files=plugin_files, timeout=timeout)
    environment = {"diffkit": __version__, **found.environment}
    if as_json:
        click.echo(json.dumps(_record(found, environment), indent=2))
    else:
        for line in _lines(found, environment):
            click.echo(printable(line))
    if not found.healthy:
        raise click.exceptions.Exit(UNHEALTHY)


def _record(found: Diagnosis, environment: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "healthy": found.healthy,
        "environment": dict(environment),
        "findings": [dataclasses.asdict(finding) for finding in found.findings],
    }


def _lines(found: Diagnosis, environment: Mapping[str, Any]) -> list[str]:
    """The environment, a table, and each problem at length."""
    problems = [finding for finding in found.findings if not finding.healthy]
    lines = [*_environment(environment), "", *_table(found.findings)]
    for problem in problems:
        lines += ["", *_explained(problem)]
    good = sum(finding.status == "ok" for finding in found.findings)
    return [*lines, "", f"{good} ok, {len(problems)} with problems"]


def _environment(environment: Mapping[str, Any]) -> list[str]:
    cuda = environment["cuda"] or "none"
    rows = [
        ("diffkit", environment["diffkit"]),
        ("python", f"{environment['python']}, {environment['executable']}"),
        ("torch", environment["torch"] or "cannot be imported"),
        ("cuda", f"{cuda}; devices: {', '.join(environment['devices']) or 'none'}"),
        ("platform", environment["platform"]),
        ("disabled", ", ".join(environment["disabled"]) or "nothing"),
    ]
    return [f"{name:<9} {value}" for name, value in rows]


def _table(findings: tuple[Finding, ...]) -> list[str]:
    rows = [_HEADER]
    rows += [(f.status, f.kind, f.id, f.distribution, f.version or "-") for f in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _explained(problem: Finding) -> list[str]:
    origin = f"{problem.distribution} {problem.version}".rstrip()
    lines = [f"{problem.status}: {problem.kind} {problem.id} of {origin} {problem.target}".rstrip()]
    lines.append(f"  what:  {problem.message}")
    lines.append(f"  to do: {problem.advice}")
    if problem.output:
        written = (line for line in problem.output.splitlines() if _IMPORTING not in line)
        shown = "\n".join(list(written)[-_LINES:])
        lines += ["  it wrote:", textwrap.indent(shown, "    | ")]
    return lines
