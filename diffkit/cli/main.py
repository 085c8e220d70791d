"""The command `diffkit`: it finds the verb, and turns mistakes into messages."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import click

from diffkit import __version__
from diffkit.cli.options import DEBUG, debug_option, printable
from diffkit.distributed.launcher import launched
from diffkit.errors import ComponentError, DiffkitError
from diffkit.plugins.isolation import cause_of
from diffkit.plugins.kinds import VERBS
from diffkit.plugins.loading import load_command
from diffkit.plugins.metadata import unreadable_left_out

if TYPE_CHECKING:
    from diffkit.plugins.entries import CommandEntry

USER_MISTAKE = 2
"""The exit code of a mistake that the message explains."""
INTERRUPTED, TERMINATED = 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what is half written is cleared away, as after Ctrl-C."""


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
            return None if entry is None else _loaded(entry)
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
        _write_out_what_cannot_be_encoded()
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            # Of a pipe that ends early, as that to `head` does, click ends quietly.
            raise
        except KeyboardInterrupt as error:
            notes = getattr(error, "__notes__", ())
            click.echo(printable(": ".join(["interrupted", *notes])), err=True)
            ctx.exit(TERMINATED if isinstance(error, Terminated) else INTERRUPTED)
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 - plugins may raise anything
            _report(ctx, error)


def _write_out_what_cannot_be_encoded() -> None:
    """Names of files need not be text, and a terminal need not know every character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _added() -> dict[str, CommandEntry]:
    """The verbs of plugins, from their metadata."""
    from diffkit.plugins.host import default_host

    return default_host().commands


def _loaded(entry: CommandEntry) -> click.Command:
    try:
        return load_command(entry)
    except ComponentError as error:
        raise ComponentError(
            f"{error}; `diffkit doctor` says more, and DIFFKIT_DISABLE leaves a plugin out"
        ) from error


def _report(ctx: click.Context, error: BaseException) -> None:
    if ctx.meta.get(DEBUG):
        traceback.print_exception(error)
    elif isinstance(error, DiffkitError):
        said = [f"Error: {error}", *getattr(error, "__notes__", ())]
        click.echo(printable("\n".join(said)), err=True)
    else:
        click.echo(
            f"Error: unexpected {printable(cause_of(error))}\nRun with --debug for the traceback.",
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
    _mind_termination()
    try:
        # What verbs import reads everybody's metadata, and this process is all diffkit's.
        with unreadable_left_out():
            cli.main(prog_name="diffkit")
    except SystemExit as ended:
        if launched():
            _leave(ended)
        raise


def _mind_termination() -> None:
    """Let SIGTERM end a verb as an exception does, unless it was told to do something else."""

    def end(number: int, _: object) -> None:
        raise Terminated

    here = threading.current_thread() is threading.main_thread()
    if here and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, end)


def _leave(ended: SystemExit) -> None:
    """End one of several processes without tearing down the interpreter.

    After DDP on gloo, torch keeps the group's threads, and now and then aborts a process that has
    finished when they are torn down; the launcher would report a failure.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
