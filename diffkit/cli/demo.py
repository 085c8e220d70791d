"""`diffkit demo`: digits from noise, within a minute."""

from __future__ import annotations

import itertools
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diffkit.cli.ending import end_unless
from diffkit.cli.options import UserPath, host_options, make_host

if TYPE_CHECKING:
    from diffkit.pipeline import Pipeline

_GRID = 64
_TRAJECTORIES = 8
_STAGES = 10


@click.command("demo")
@click.option(
    "--out",
    type=UserPath(),
    metavar="DIR",
    help="The run directory; must not exist.  [default: runs/demo, runs/demo-2 ...]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=55.0,
    show_default=True,
    help="How long to train.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@host_options
def command(
    out: Path | None,
    seconds: float,
    seed: int,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
) -> None:
    """Train on handwritten digits for a minute, sample, and measure the samples.

    Leaves pictures in the run directory: samples next to real digits, the way from noise to
    digit, and the loss.
    """
    directory = _directory(out)
    from diffkit.api import build

    spec = demo_spec()
    spec["training"] = {**spec["training"], "max_seconds": seconds}
    spec["seed"] = seed
    pipeline = build(spec, host=make_host(disabled, plugin_files))
    click.echo(f"training for {seconds:g} seconds ...")
    pipeline.train(out=directory)
    click.echo("sampling and measuring ...")
    values = results(pipeline, directory, seed)
    for name in ("samples.png", "denoising.png", "loss.png", "eval.json"):
        click.echo(f"  {directory / name}")
    click.echo(f"frechet_ratio {values['frechet_ratio']:.2f}  (1 is as good as real digits)")


def demo_spec() -> dict[str, Any]:
    """The demo's spec, as its file has it."""
    from diffkit.config.files import parse_yaml

    text = resources.files("diffkit.cli").joinpath("demo.yaml").read_text(encoding="utf-8")
    spec = parse_yaml(text)
    assert isinstance(spec, dict)
    return spec


def _directory(out: Path | None) -> Path:
    """The directory asked for, which must not exist; or the first free one of `runs/demo-N`."""
    if out is not None:
        if out.exists():
            raise click.UsageError(f"--out {out} exists already; choose another directory")
        return out
    names = itertools.chain(["demo"], (f"demo-{number}" for number in itertools.count(2)))
    return next(path for path in (Path("runs") / name for name in names) if not path.exists())


def results(pipeline: Pipeline, directory: Path, seed: int) -> dict[str, float]:
    """Write the pictures and the evaluation."""
    from diffkit.cli.eval import measured, write_evaluation
    from diffkit.helpers import pictures
    from diffkit.helpers.finite import Finite, no_warning
    from diffkit.storage.run_directory import read_metrics

    data_range = pipeline.parts.sample_range
    finite = Finite()
    with no_warning():
        samples = finite.look(range(_GRID), pipeline.sample(_GRID, seed=seed))
    dataset = pipeline.dataset()
    stride = max(1, len(dataset) // _GRID)
    real = dataset.batch(range(0, len(dataset), stride)[:_GRID]).x_0
    sheets = [pictures.grid(pictures.to_bytes(x, data_range), 8) for x in (samples, real)]
    together = pictures.side_by_side(sheets[0], sheets[1], ("samples", "real digits"))
    pictures.write_png(directory / "samples.png", together)
    states = (state.x for state in pipeline.trajectory(_TRAJECTORIES, seed=seed))
    stages = pictures.evenly(states, _STAGES)
    strip = pictures.strip([pictures.to_bytes(pipeline.decoded(x), data_range) for x in stages])
    pictures.write_png(directory / "denoising.png", strip)
    pictures.write_curve(directory / "loss.png", read_metrics(directory))
    found, context = measured(pipeline, directory, seed, {})
    write_evaluation(directory, found, context)
    end_unless(finite, f"{directory / 'samples.png'} leaves their places empty")
    return dict(found.values)
