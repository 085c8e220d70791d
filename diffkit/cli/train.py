"""`diffkit train`: from a spec to a run directory."""

from __future__ import annotations

from pathlib import Path
from signal import SIGINT

import click

from diffkit.cli.options import UserPath, command_line, host_options, make_host
from diffkit.errors import TrainingInterrupted


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
@click.option("--resume", is_flag=True, help="Go on from the latest checkpoint in DIR.")
@host_options
def command(
    spec: Path,
    out: Path,
    settings: tuple[str, ...],
    resume: bool,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
) -> None:
    """Train the pipeline that the file SPEC describes (.yaml, .toml or .json).

    SIGINT (Ctrl-C) and SIGTERM end it after the update that is under way, with a checkpoint; the
    exit code is then 130 or 143.
    """
    from diffkit.cli.settings import with_settings
    from diffkit.making import build
    from diffkit.run.processes import first_of_all
    from diffkit.spec.files import read_data

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
        pipeline.train(out=out, resume=resume)
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
    from diffkit.run.artifacts import checkpoints

    kept = checkpoints(out)
    if not kept:
        return f"interrupted before the first checkpoint; delete {out} and train again"
    ended = f"ended by {error.signal.name}" if isinstance(error, TrainingInterrupted) else "killed"
    return f"{ended}; {kept[-1].name} is kept. Resume with\n  {again}"
