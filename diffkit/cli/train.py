"""`diffkit train`: from a spec to a run directory."""

from __future__ import annotations

from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING

import click

from diffkit.cli.options import (
    UserPath,
    checkpoint_option,
    command_line,
    host_options,
    make_host,
)
from diffkit.errors import ComponentError, DataError, TrainingError, TrainingInterrupted

if TYPE_CHECKING:
    from diffkit.storage.run_directory import Which


@click.command("train")
@click.argument("spec", type=UserPath())
@click.option(
    "--out",
    required=True,
    type=UserPath(file_okay=False),
    metavar="DIR",
    help="The run directory.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change the spec: sampler=ddpm, model.width=64, training.steps=2000; repeatable.",
)
@click.option("--resume", is_flag=True, help="Go on from a checkpoint in DIR.")
@checkpoint_option
@host_options
def command(
    spec: Path,
    out: Path,
    settings: tuple[str, ...],
    resume: bool,
    checkpoint: Which,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
) -> None:
    """Train the pipeline that the file SPEC describes (.yaml, .toml or .json).

    SIGINT (Ctrl-C) and SIGTERM end it after the update that is under way, with a checkpoint; the
    exit code is then 130 or 143.
    """
    if checkpoint != "last" and not resume:
        raise click.UsageError("--checkpoint says where to go on; it goes with --resume")
    from diffkit.api import build
    from diffkit.cli.settings import with_settings
    from diffkit.config.files import read_data
    from diffkit.distributed.world import first_of_all

    raw = with_settings(read_data(spec), settings)
    pipeline = build(raw, host=make_host(disabled, plugin_files))
    words: list[str | Path] = ["train", spec, "--out", out]
    for setting in settings:
        words += ["--set", setting]
    again = command_line(*words, "--resume", disabled=disabled, plugin_files=plugin_files)
    sample = command_line(
        "sample", out, "--out", "samples.png", disabled=disabled, plugin_files=plugin_files
    )
    try:
        pipeline.train(out=out, resume=resume, checkpoint=checkpoint)
    except (ComponentError, DataError, TrainingError) as error:
        if first_of_all() and (kept := _kept(out)) is not None:
            error.add_note(f"{kept.name} is kept. Once that is mended, resume with\n  {again}")
        raise
    except KeyboardInterrupt as error:
        if first_of_all():
            why = (*getattr(error, "__notes__", ()), _interrupted(error, out, again))
            click.echo("\n".join(why), err=True)
        ended_by = error.signal if isinstance(error, TrainingInterrupted) else SIGINT
        raise click.exceptions.Exit(128 + ended_by) from None
    if not first_of_all():
        return
    click.echo(f"The run is in {out}")
    click.echo(f"Sample from it:  {sample}")
    click.echo(f"Go on, with more training.steps:  {again}")


def _interrupted(error: KeyboardInterrupt, out: Path, again: str) -> str:
    """What remains of an interrupted run, and how to go on."""
    ended = f"ended by {error.signal.name}" if isinstance(error, TrainingInterrupted) else "killed"
    if (kept := _kept(out)) is None:
        return f"{ended} before the first checkpoint. Begin again with\n  {again}"
    return f"{ended}; {kept.name} is kept. Resume with\n  {again}"


def _kept(out: Path) -> Path | None:
    from diffkit.storage.run_directory import checkpoints

    found = checkpoints(out)
    return found[-1] if found else None
