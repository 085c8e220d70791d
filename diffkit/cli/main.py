"""The command `diffkit`: it finds the verb, and turns mistakes into messages."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from diffkit import __version__
from diffkit.cli.options import DEBUG, debug_option
from diffkit.errors import ComponentError, DiffkitError

if TYPE_CHECKING:
    from diffkit.plugins.entries import CommandEntry

VERBS = {
    "list": "List the components that are installed.",
    "show": "Describe a component and its arguments.",
    "train": "Train a pipeline.",
    "sample": "Draw samples from a trained run.",
    "eval": "Measure how good a run's samples are.",
    "demo": "Train on handwritten digits in a minute, and look at the result.",
    "check": "Run the conformance kit on components.",
    "doctor": "Import every plugin on its own, and say what is wrong.",
    "new-plugin": "Write a package of components to begin with.",
}
"""Each verb with its line in the help, so that the help imports none of them."""

USER_MISTAKE = 2
"""The exit code of a mistake that the message explains."""
INTERRUPTED = 130


class Verbs(click.Group):
    """A group whose commands are imported when they are run: modules of `diffkit.cli`, and what
    plugins add in the entry-point group `diffkit.command.v1`.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order in which people meet them, and those of plugins."""
        return [*VERBS, *(name for name in _added() if name not in VERBS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module; its command is called `command`."""
        if cmd_name not in VERBS:
            entry = _added().get(cmd_name)
            return None if entry is None else _imported(entry)
        found = importlib.import_module(f"diffkit.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))
        added = {n: f"Of {e.origin}." for n, e in _added().items() if n not in VERBS}
        if added:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(list(added.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; every error becomes one message on standard error, and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            # Of a pipe that ends early, as that to `head` does, click ends quietly.
            raise
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - plugins may raise anything
            _report(ctx, error)


def _added() -> dict[str, CommandEntry]:
    """The verbs of plugins, from their metadata."""
    from diffkit.plugins.host import default_host

    return default_host().commands


def _imported(entry: CommandEntry) -> click.Command:
    module, _, attribute = entry.target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise ComponentError(
            f"{entry} cannot be imported: {type(error).__name__}: {error}; `diffkit doctor` says "
            "more, and DIFFKIT_DISABLE leaves a plugin out"
        ) from error
    if not isinstance(found, click.Command):
        raise ComponentError(f"{entry}: {entry.target} is no click command; tell its authors")
    return found


def _report(ctx: click.Context, error: Exception) -> None:
    if ctx.meta.get(DEBUG):
        traceback.print_exception(error)
    elif isinstance(error, DiffkitError):
        click.echo("\n".join([f"Error: {error}", *getattr(error, "__notes__", ())]), err=True)
    else:
        click.echo(
            f"Error: unexpected {type(error).__name__}: {error}\n"
            "Run with --debug for the traceback.",
            err=True,
        )
    ctx.exit(USER_MISTAKE if isinstance(error, DiffkitError) else 1)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="diffkit")
@debug_option
def cli() -> None:
    """Diffusion models from swappable parts."""


def main() -> None:
    """The entry point of the command."""
    try:
        cli.main(prog_name="diffkit")
    except SystemExit as ended:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            _leave(ended)
        raise


def _leave(ended: SystemExit) -> None:
    """End one of several processes without tearing down the interpreter.

    After DDP on gloo, torch keeps the group's threads, and now and then aborts a process that has
    finished when they are torn down; the launcher would report a failure.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
