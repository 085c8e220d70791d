"""`diffkit eval`: how good a run's samples are, as a number."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from diffkit.cli.options import host_options, make_host

if TYPE_CHECKING:
    from diffkit.pipeline import Pipeline

EVAL = "eval.json"
"""The file in a run that holds its last evaluation."""


@click.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@host_options
def command(
    run: Path, seed: int, disabled: tuple[str, ...], plugin_files: tuple[Path, ...]
) -> None:
    """Measure the samples of the run directory RUN with its spec's metric.

    Prints the values, and writes them to eval.json in the run.
    """
    from diffkit.making import load

    pipeline = load(run, host=make_host(disabled, plugin_files))
    values = measure(pipeline, run, seed)
    width = max(map(len, values))
    for name, value in values.items():
        click.echo(f"{name:<{width}}  {value:.6g}")
    click.echo(f"written to {run / EVAL}")


def measure(pipeline: Pipeline, run: Path, seed: int) -> dict[str, float]:
    """The metric's values for new samples, written into the run with what they depend on."""
    from diffkit.run.artifacts import latest_checkpoint, write_json

    values = pipeline.evaluate(seed=seed)
    context = {
        "metric": pipeline.spec.metric.id,
        "seed": seed,
        "checkpoint": latest_checkpoint(run).name,
    }
    write_json(run / EVAL, {**values, **context})
    return values
