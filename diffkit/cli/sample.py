"""`diffkit sample`: samples of a run, as a picture, an array or an animation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diffkit.cli.conditions import (
    condition_options,
    conditions_from,
    inputs_from,
    pairs_of,
)
from diffkit.cli.ending import end_unless
from diffkit.cli.options import (
    UserPath,
    average_option,
    checkpoint_option,
    choice_of,
    guidance_of,
    host_options,
    make_host,
)

if TYPE_CHECKING:
    from torch import Tensor

    from diffkit.helpers.finite import Finite
    from diffkit.pipeline import Pipeline
    from diffkit.storage.run_directory import Which

_ENDINGS = {
    ".png": "a grid of samples",
    ".gif": "an animation of the trajectory from noise",
    ".npz": "an array",
    "/": "a folder of pictures",
}
_LEFT_OUT = "leaves their places empty: pictures cannot show them, an .npz file can"
_FRAMES = 40
_BATCH = 64


@click.command("sample")
@click.argument("run", type=UserPath())
@click.option("-n", "--num", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    help="Where to: .png (a grid), .gif (the trajectory from noise), .npz (an array), or a folder, "
    "written as NAME/, for a .png of each sample. The last two hold one batch at a time.",
)
@click.option("--sampler", metavar="NAME", help="Another sampler than the spec's.")
@click.option("--steps", type=click.IntRange(min=1), help="Sampling steps.")
@click.option("--spacing", metavar="NAME", help="Another spacing of the steps.")
@click.option("--schedule", metavar="NAME", help="Sample with another schedule than was trained.")
@click.option("--process", metavar="NAME", help="Sample with another process than was trained.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "auto"]),
    help="Another precision of the network than the spec's.",
)
@click.option(
    "--compile",
    type=click.Choice(["off", "auto", "default", "reduce-overhead"]),
    help="Compile the network otherwise than the spec says.",
)
@click.option(
    "--clip/--no-clip",
    default=None,
    help="Clip the predicted data to their range in each step, or not, otherwise than the spec "
    "says.",
)
@click.option("--prompt", "prompts", multiple=True, help="A caption; repeatable, taken in turn.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    type=click.IntRange(min=0),
    help="The number of a class; repeatable, taken in turn.",
)
@click.option(
    "--guidance",
    metavar="SCALE|NAME",
    help="Lead towards the condition: a number is the scale of classifier-free guidance.",
)
@condition_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help=f"Samples at a time.  [default: {_BATCH}]"
)
@checkpoint_option
@average_option
@host_options
def command(
    run: Path,
    num: int,
    out: str,
    seed: int,
    checkpoint: Which,
    average: str | None,
    steps: int | None,
    batch_size: int | None,
    prompts: tuple[str, ...],
    labels: tuple[int, ...],
    condition: tuple[str, ...],
    input: tuple[str, ...],  # noqa: A002 - it is the option's name
    like: str | None,
    guidance: str | None,
    precision: str | None,
    compile: str | None,
    clip: bool | None,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
    **choices: str | None,
) -> None:
    """Draw samples from the run directory RUN.

    A component is given as a name, or with its arguments:
    --sampler '{id: ddpm, config: {variance: fixed_large}}'
    """
    out = os.path.expanduser(out)
    ending, path = _checked_ending(out, batch_size), Path(out)
    from diffkit.api import load
    from diffkit.distributed.world import first_of_all
    from diffkit.helpers.files import check_writable, check_writable_folder
    from diffkit.helpers.finite import Finite, no_warning

    chosen: dict[str, Any] = {
        kind: choice_of(kind, text) for kind, text in choices.items() if text is not None
    }
    chosen["guidance"] = guidance_of(guidance)
    told, inputs = pairs_of("--condition", condition), pairs_of("--input", input)
    (check_writable_folder if ending == "/" else check_writable)(path)
    host = make_host(disabled, plugin_files)
    pipeline = load(run, host=host, checkpoint=checkpoint, average=average)
    if ending != ".npz":
        _check_images(pipeline)
    plain = {"caption": prompts, "label": labels}
    chosen["condition"] = conditions_from(pipeline, num, told, like, plain)
    chosen["inputs"] = inputs_from(pipeline, num, inputs)
    chosen |= {"seed": seed, "steps": steps, "precision": precision, "compile": compile}
    chosen["clip"] = clip
    finite = Finite()
    with no_warning():
        if ending == ".gif":
            _animate(pipeline, path, num, chosen, finite)
        else:
            size = batch_size or _BATCH
            _write(pipeline, path, ending, num, {**chosen, "batch_size": size}, finite)
    end_unless(finite, f"{path} {'has them' if ending == '.npz' else _LEFT_OUT}")
    if first_of_all():
        click.echo(f"{num} samples are in {path}")


def _checked_ending(out: str, batch_size: int | None) -> str:
    """How the samples are written; "/" for a folder."""
    ending = "/" if out.endswith("/") or Path(out).is_dir() else Path(out).suffix.lower()
    if ending not in _ENDINGS:
        known = ", ".join(f"{name} ({what})" for name, what in _ENDINGS.items())
        raise click.UsageError(f"--out {out}: the file must end in one of {known}")
    if ending == ".gif" and batch_size is not None:
        raise click.UsageError(
            "--batch-size does not go with .gif: an animation shows all samples together"
        )
    return ending


def _check_images(pipeline: Pipeline) -> None:
    from diffkit.core.data import is_picture
    from diffkit.errors import DataError

    shape = pipeline.parts.sample_shape
    if not is_picture(shape):
        raise DataError(
            f"a picture needs images of 1 or 3 channels, and this run's samples have the shape "
            f"{list(shape)}; write an .npz file"
        )


def _write(
    pipeline: Pipeline,
    out: Path,
    ending: str,
    num: int,
    choices: Mapping[str, Any],
    finite: Finite,
) -> None:
    from diffkit.distributed.world import world_of
    from diffkit.helpers import pictures

    alone = world_of(pipeline.device).count == 1
    data_range = pipeline.parts.sample_range
    if ending == "/":
        looked = ((rows, finite.look(rows, x)) for rows, x in pipeline.batches(num, **choices))
        pictures.write_pngs(out, looked, data_range)
    elif ending == ".npz" and alone:
        batches = (finite.look(rows, x) for rows, x in pipeline.batches(num, **choices))
        shape, tokens = (num, *pipeline.parts.sample_shape), pipeline.parts.dtype == "int64"
        pictures.write_npz(out, shape, batches, tokens=tokens)
    else:
        samples = finite.look(range(num), pipeline.sample(num, **choices))
        _write_whole(pipeline, out, ending, samples)


def _write_whole(pipeline: Pipeline, out: Path, ending: str, samples: Tensor) -> None:
    """One file of all samples, by the first process where there are several."""
    from diffkit.distributed.world import world_of
    from diffkit.helpers import pictures

    if not world_of(pipeline.device).is_main:
        return
    if ending == ".npz":
        tokens = pipeline.parts.dtype == "int64"
        pictures.write_npz(out, tuple(samples.shape), [samples], tokens=tokens)
        return
    images = pictures.to_bytes(samples, pipeline.parts.sample_range)
    pictures.write_png(out, pictures.grid(images, pictures.columns_for(len(images))))


def _animate(
    pipeline: Pipeline, out: Path, num: int, choices: Mapping[str, Any], finite: Finite
) -> None:
    from diffkit.helpers import pictures
    from diffkit.helpers.progress import bar

    states = pipeline.trajectory(num, **choices)
    with bar("sampling", 1.0) as progress:

        def counted() -> Any:
            for state in states:
                progress.update(1.0 - state.t, "")
                yield state.x

        stages = pictures.evenly(counted(), _FRAMES)
    data_range, columns = pipeline.parts.sample_range, pictures.columns_for(num)
    shown = [pipeline.decoded(x).cpu() for x in stages]
    finite.look(range(num), shown[-1])
    frames = [pictures.grid(pictures.to_bytes(x, data_range), columns) for x in shown]
    pictures.write_gif(out, frames)
