"""`diffkit eval`: how good a run's samples are, as a number."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diffkit.cli.options import (
    UserPath,
    average_option,
    checkpoint_option,
    choice_of,
    guidance_of,
    host_options,
    make_host,
)
from diffkit.errors import CheckpointError

if TYPE_CHECKING:
    from diffkit.core.metric import Measured
    from diffkit.pipeline import Pipeline
    from diffkit.storage.run_directory import Which

EVAL = "eval.json"
"""The file in a run that holds its last evaluation."""


@click.command("eval")
@click.argument("run", type=UserPath())
@click.option("--metric", help="Another metric than the spec's: a name, or {id, config} as YAML.")
@click.option(
    "--dataset",
    help="Other data than the spec's, such as a test set: a name, or {id, config} as YAML.",
)
@click.option("--features", help="Another space to compare in, for a metric that is made with one.")
@click.option("-n", "--num", type=click.IntRange(min=1), help="How many samples to draw.")
@click.option("--sampler", metavar="NAME", help="Another sampler than the spec's.")
@click.option("--steps", type=click.IntRange(min=1), help="Sampling steps.")
@click.option(
    "--guidance",
    metavar="SCALE|NAME",
    help="Lead towards the condition: a number is the scale of classifier-free guidance.",
)
@click.option("--plot", type=UserPath(), help="Draw the metric's curves (.png).")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@checkpoint_option
@average_option
@host_options
def command(
    run: Path,
    checkpoint: Which,
    average: str | None,
    metric: str | None,
    dataset: str | None,
    features: str | None,
    num: int | None,
    sampler: str | None,
    steps: int | None,
    guidance: str | None,
    plot: Path | None,
    seed: int,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
) -> None:
    """Measure the run directory RUN, or its samples, with its spec's metric or another, on its
    spec's data or others.

    Prints the values, and writes them to eval.json in the run.
    """
    from diffkit.api import load
    from diffkit.helpers.files import check_writable

    if plot is not None:
        if plot.suffix.lower() != ".png":
            raise click.UsageError(f"--plot {plot}: the file must end in .png")
        check_writable(plot)
    try:
        check_writable(run / EVAL)
    except CheckpointError as error:
        click.echo(f"The values will be shown, and not kept: {error}", err=True)
        kept = False
    else:
        kept = True
    host = make_host(disabled, plugin_files)
    pipeline = load(run, host=host, checkpoint=checkpoint, average=average)
    wanted = {"metric": metric, "dataset": dataset, "features": features, "sampler": sampler}
    choices: dict[str, Any] = {
        kind: choice_of(kind, text) for kind, text in wanted.items() if text is not None
    }
    said = {"guidance": guidance_of(guidance), "steps": steps, "num": num}
    choices |= {name: value for name, value in said.items() if value is not None}
    found, context = measured(pipeline, run, seed, choices, checkpoint)
    width = max(map(len, found.values))
    for name, value in found.values.items():
        click.echo(f"{name:<{width}}  {value:.6g}")
    # Shown before anything is written: what was measured for an hour is not lost to a full disk.
    if kept:
        write_evaluation(run, found, context)
        click.echo(f"written to {run / EVAL}")
    wrong = [name for name, value in found.values.items() if not math.isfinite(value)]
    if wrong:
        click.echo(
            f"{', '.join(wrong)}: not finite. Likely causes: weights that diverged, or predictions "
            "that leave the range of the data (clip in the spec)",
            err=True,
        )
        raise click.exceptions.Exit(1)
    if plot is not None:
        _draw(context.get("curves", {}), plot)


def measured(
    pipeline: Pipeline,
    run: Path,
    seed: int,
    choices: Mapping[str, Any],
    checkpoint: Which = "last",
) -> tuple[Measured, dict[str, Any]]:
    """What the spec's metric or another finds, and what that depends on."""
    from diffkit.storage.run_directory import chosen_checkpoint

    found = pipeline.measure(seed=seed, **choices)
    context: dict[str, Any] = {
        "metric": _reference(pipeline, "metric", choices.get("metric")),
        "dataset": _reference(pipeline, "dataset", choices.get("dataset")),
        "seed": seed,
        "checkpoint": chosen_checkpoint(run, checkpoint).name,
    }
    kinds = ("features", "sampler", "guidance")
    context |= {
        name: _reference(pipeline, name, value) if name in kinds else value
        for name, value in choices.items()
        if name not in context
    }
    curves = {name: curve.tolist() for name, curve in found.curves.items()}
    return found, {**context, "curves": curves} if curves else context


def write_evaluation(run: Path, found: Measured, context: Mapping[str, Any]) -> None:
    """Write `eval.json` into the run. Raises CheckpointError."""
    from diffkit.helpers.files import write_json

    write_json(run / EVAL, {**found.values, **context})


def _reference(
    pipeline: Pipeline, kind: str, choice: str | Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The full id and the arguments of what was chosen, or of what the spec names, if any."""
    from diffkit.assembly.read_choice import read_choice
    from diffkit.config.spec import ComponentSpec

    if choice is None:
        named: ComponentSpec | None = getattr(pipeline.spec, kind)
    else:
        named = ComponentSpec.model_validate(choice)
    if named is None:
        return None
    found = read_choice(kind, named, pipeline.host, {}).choice
    assert found is not None
    assert found.described is not None
    return found.described.model_dump(mode="json")


def _draw(curves: Mapping[str, list[list[float]]], path: Path) -> None:
    if not curves:
        click.echo("--plot: this metric has no curves, so that nothing is drawn", err=True)
        return
    from diffkit.helpers.files import write_file

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise click.UsageError(
            "--plot: matplotlib draws, and is not installed: pip install 'diffkit[demo]'"
        ) from error
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, points in curves.items():
        axes.plot([t for t, _ in points], [value for _, value in points], ".-", label=name)
    axes.set(xlabel="t", ylabel="bits a dimension", yscale="log", xlim=(0, 1))
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    write_file(path, content.getvalue())
    click.echo(f"written to {path}")
