"""Options that several verbs share. Quick to import: click and the plugin host alone."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from diffkit.arguments import expanded
from diffkit.plugins.host import Host

_Command = TypeVar("_Command", bound=Callable[..., Any])
_GUIDED_BY = "guidance.classifier-free"
"""What a number after `--guidance` is the scale of; in full, as others may share the short name."""
DEBUG = "diffkit.debug"
"""The key in click's `meta` under which it is kept whether tracebacks are wanted."""


class UserPath(click.Path):
    """A path as people type it: `~` is the home directory, also where no shell has seen it."""

    def __init__(self, *, file_okay: bool = True) -> None:
        super().__init__(file_okay=file_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Fails where it is empty."""
        if not str(value):
            self.fail("a path is not empty", param, ctx)
        return super().convert(expanded(value), param, ctx)


def _keep_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.meta[DEBUG] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_keep_debug,
    help="Show the traceback of an error.",
)
"""`--debug`, which may stand before the verb and after it."""


def host_options(command: _Command) -> _Command:
    """Add `--disable`, `--plugin-file` and `--debug`; the verb is given the first two."""
    command = debug_option(command)
    command = click.option(
        "--plugin-file",
        "plugin_files",
        multiple=True,
        type=UserPath(),
        metavar="FILE",
        help="Run a Python file, and use its components as local.*; repeatable.",
    )(command)
    return click.option(
        "--disable",
        "disabled",
        multiple=True,
        metavar="NAME",
        help="Leave out the plugins of a distribution; repeatable.",
    )(command)


def checkpoint_option(command: _Command) -> _Command:
    """Add `--checkpoint`: `last`, `best`, or the number of updates."""
    return click.option(
        "--checkpoint",
        default="last",
        show_default=True,
        metavar="last|best|N",
        callback=_which,
        help="The last checkpoint, the one of the least loss, or that after N updates.",
    )(command)


def average_option(command: _Command) -> _Command:
    """Add `--average`: the name of one that the run keeps, or `latest`."""
    return click.option(
        "--average",
        metavar="NAME",
        help="Which average of the weights, where the run keeps several; latest is none of them.",
    )(command)


def _which(context: click.Context, parameter: click.Parameter, value: str) -> str | int:
    if value in ("last", "best"):
        return value
    if value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    raise click.BadParameter("it is last, best, or a number of updates", context, parameter)


def make_host(disabled: tuple[str, ...], plugin_files: tuple[Path, ...]) -> Host:
    """The host that the options ask for. Raises ComponentError for a file that fails."""
    return Host(disabled=disabled, plugin_files=plugin_files)


def printable(text: str) -> str:
    """Text for a terminal: what would control it, or cannot be encoded, is written out."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def command_line(
    *words: str | Path, disabled: tuple[str, ...] = (), plugin_files: tuple[Path, ...] = ()
) -> str:
    """A diffkit command as one types it, with the options that find the same plugins."""
    parts = ["diffkit", *(str(word) for word in words)]
    for name in disabled:
        parts += ["--disable", name]
    for file in plugin_files:
        parts += ["--plugin-file", str(file)]
    return shlex.join(parts)


def choice_of(kind: str, text: str) -> str | Mapping[str, Any]:
    """A name, or `{id, config}` as YAML."""
    from diffkit.config.files import parse_yaml

    if not text.lstrip().startswith("{"):
        return text
    try:
        value = parse_yaml(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--{kind}: {' '.join(str(error).split())}") from error
    assert isinstance(value, dict)
    return value


def guidance_of(text: str | None) -> str | Mapping[str, Any] | None:
    """A component, or a number as short for the scale of classifier-free guidance."""
    if text is None:
        return None
    try:
        return {"id": _GUIDED_BY, "config": {"scale": float(text)}}
    except ValueError:
        return choice_of("guidance", text)
