"""The command `diffkit-diffusers`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click
from diffkit.cli.options import UserPath
from diffkit.errors import DiffkitError

from diffkit_diffusers import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="diffkit-diffusers")
def cli() -> None:
    """Between diffkit and diffusers."""


@cli.command("import")
@click.argument("folder", type=UserPath())
@click.argument("run", type=UserPath())
@click.option("--sampler", help="A sampler instead of the folder's scheduler.")
def import_(folder: Path, run: Path, sampler: str | None) -> None:
    """Import a diffusers pipeline FOLDER into a diffkit RUN."""
    from diffkit_diffusers.importing import import_pipeline

    pipeline = import_pipeline(folder, run, sampler=sampler)
    click.echo(f"{run}: {pipeline.spec.model.id}, sampler {pipeline.spec.sampler.id}")


@cli.command("export")
@click.argument("run", type=UserPath())
@click.argument("folder", type=UserPath())
@click.option(
    "--scheduler",
    type=click.Choice(["ddpm", "ddim"]),
    help="Which scheduler to write; default the one that samples like the run's sampler.",
)
def export(run: Path, folder: Path, scheduler: Literal["ddpm", "ddim"] | None) -> None:
    """Export a diffkit RUN into a diffusers pipeline FOLDER."""
    from diffkit_diffusers.exporting import export_pipeline

    click.echo(f"{export_pipeline(run, folder, scheduler=scheduler)}: written")


def main() -> None:
    """The entry point of the command; a user's mistake is one message and exit code 2."""
    try:
        sys.exit(cli.main(prog_name="diffkit-diffusers"))
    except DiffkitError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
