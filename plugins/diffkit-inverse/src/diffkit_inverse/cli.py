"""`diffkit edit`: pictures painted, enlarged, sharpened, edited or joined by a trained run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from diffkit.cli.ending import end_unless
from diffkit.cli.options import UserPath, checkpoint_option, host_options, make_host

if TYPE_CHECKING:
    from torch import Tensor

    from diffkit.pipeline import Pipeline
    from diffkit.storage.run_directory import Which

_FILE = UserPath()


class _Task(NamedTuple):
    """The options that go with one of the tasks."""

    needs: tuple[str, ...]
    takes: tuple[str, ...]


_SAMPLING = ("num", "seed", "precision", "clip", "batch_size")
_TASKS = {
    "inpaint": _Task(("mask",), ("method", *_SAMPLING)),
    "upscale": _Task(("factor",), ("zeta", *_SAMPLING)),
    "deblur": _Task(("blur",), ("zeta", *_SAMPLING)),
    "edit": _Task((), ("strength", *_SAMPLING)),
    "interpolate": _Task((), ("frames",)),
}
_ALL = ("steps", "resize")


@click.command("edit")
@click.argument("run", type=_FILE)
@click.option("--inpaint", type=_FILE, metavar="IMAGE", help="Paint a part of it; with --mask.")
@click.option("--mask", type=_FILE, help="White is painted, black is kept as it is.")
@click.option(
    "--method",
    type=click.Choice(["repaint", "replacement", "dps"]),
    help="Of --inpaint.  [default: repaint]",
)
@click.option("--upscale", type=_FILE, metavar="IMAGE", help="Enlarge it; with --factor.")
@click.option(
    "--factor", type=click.IntRange(min=2), help="How many times the run's images are larger."
)
@click.option("--deblur", type=_FILE, metavar="IMAGE", help="Sharpen it; with --blur.")
@click.option("--blur", type=float, metavar="SIGMA", help="The deviation of its blur in pixels.")
@click.option("--zeta", type=float, help="The step size of --upscale and --deblur.  [default: 1]")
@click.option("--edit", type=_FILE, metavar="IMAGE", help="Make another image like it.")
@click.option(
    "--strength", type=float, help="Above 0 (as it was) to 1 (forgotten).  [default: 0.5]"
)
@click.option("--interpolate", type=_FILE, nargs=2, metavar="A B", help="Go from one to another.")
@click.option("--frames", type=click.IntRange(min=2), help="Of --interpolate.  [default: 8]")
@click.option("--out", required=True, type=_FILE, metavar="FILE", help=".png (a grid) or .npz.")
@click.option("-n", "--num", type=click.IntRange(min=1), help="How many answers.  [default: 1]")
@click.option("--steps", type=click.IntRange(min=1), help="Sampling steps.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the noise.  [default: 0]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Answers at a time.  [default: 64]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "auto"]),
    help="Another precision of the network than the spec's.",
)
@click.option(
    "--clip/--no-clip",
    default=None,
    help="Clip the predicted data to their range in each step, or not, otherwise than the spec "
    "says.",
)
@click.option("--resize", is_flag=True, help="Crop and resize pictures of another size.")
@checkpoint_option
@host_options
def command(
    run: Path,
    out: Path,
    checkpoint: Which,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
    **options: Any,
) -> None:
    """Ask the run directory RUN about pictures: one of --inpaint, --upscale, --deblur, --edit,
    --interpolate.

    Nothing is trained again. Pictures have the size of the run's images; those of --upscale are
    smaller by the factor.
    """
    # By identity: a strength of 0 equals False, and is to be refused, not left out.
    given = {
        name: value
        for name, value in options.items()
        if value is not None and (value is not False or name == "clip") and value != ()
    }
    task = _checked_task(given)
    if out.suffix.lower() not in (".png", ".npz"):
        raise click.UsageError(
            f"--out {out}: the file must end in .png (a grid) or .npz (an array)"
        )
    if out.exists() and any(path.exists() and path.samefile(out) for path in _paths(given)):
        raise click.UsageError(f"--out {out} is one of the pictures asked about; choose another")
    from diffkit.api import load
    from diffkit.helpers.files import check_writable
    from diffkit.helpers.finite import Finite, no_warning

    check_writable(out)
    pipeline = load(run, host=make_host(disabled, plugin_files), checkpoint=checkpoint)
    finite = Finite()
    with no_warning():
        images = _answer(pipeline, task, given)
    finite.look(range(len(images)), images)
    _write(pipeline, out, images)
    end_unless(finite, f"{out} {'has them' if out.suffix.lower() == '.npz' else 'leaves them out'}")
    click.echo(f"{len(images)} images are in {out}")


def _paths(given: Mapping[str, Any]) -> list[Path]:
    """The files among the values of options."""
    values = [value if isinstance(value, tuple) else (value,) for value in given.values()]
    return [item for value in values for item in value if isinstance(item, Path)]


def _checked_task(given: Mapping[str, Any]) -> str:
    """The one task that is asked for, with the options that go with it. Raises UsageError."""
    asked = [name for name in _TASKS if name in given]
    if len(asked) != 1:
        every = ", ".join(f"--{name}" for name in _TASKS)
        found = ", ".join(f"--{name}" for name in asked) or "none"
        raise click.UsageError(f"give one of {every}; given: {found}")
    (name,) = asked
    task = _TASKS[name]
    if missing := [f"--{need}" for need in task.needs if need not in given]:
        raise click.UsageError(f"--{name} needs {', '.join(missing)}")
    known = {name, *task.needs, *task.takes, *_ALL}
    if extra := [f"--{other.replace('_', '-')}" for other in given if other not in known]:
        raise click.UsageError(f"{', '.join(extra)} does not go with --{name}")
    return name


def _answer(pipeline: Pipeline, task: str, given: Mapping[str, Any]) -> Tensor:
    import diffkit_inverse as inverse
    from diffkit_inverse.images import image_shape

    chosen = {name: given[name] for name in ("steps", *_SAMPLING) if name in given}
    chosen |= {name: given[name] for name in ("method", "strength", "frames") if name in given}
    zeta = {"zeta": given["zeta"]} if "zeta" in given else {}
    channels, height, width = image_shape(pipeline.parts.shape)
    if task == "inpaint":
        mask = inverse.read_mask(
            given["mask"],
            pipeline.parts.shape,
            option="--mask",
            resize=given.get("resize", False),
        )
        return inverse.inpaint(pipeline, _read(pipeline, task, given), mask, **chosen)
    if task == "upscale":
        factor = given["factor"]
        shape = (channels, max(height // factor, 1), max(width // factor, 1))
        small = _read(pipeline, task, given, shape=shape)
        return inverse.upscale(pipeline, small, factor=factor, **zeta, **chosen)
    if task == "deblur":
        soft = _read(pipeline, task, given)
        return inverse.deblur(pipeline, soft, sigma=given["blur"], **zeta, **chosen)
    if task == "edit":
        return inverse.edit(pipeline, _read(pipeline, task, given), **chosen)
    ends = [_read(pipeline, task, given, place=place) for place in (0, 1)]
    return inverse.interpolate(pipeline, *ends, **chosen)


def _read(
    pipeline: Pipeline,
    task: str,
    given: Mapping[str, Any],
    *,
    shape: tuple[int, ...] | None = None,
    place: int | None = None,
) -> Tensor:
    from diffkit_inverse.images import read_image

    path = given[task] if place is None else given[task][place]
    parts = pipeline.parts
    resize = given.get("resize", False)
    return read_image(
        path, shape or parts.shape, parts.data_range, option=f"--{task}", resize=resize
    )


def _write(pipeline: Pipeline, out: Path, images: Tensor) -> None:
    from diffkit.helpers import pictures

    if out.suffix.lower() == ".npz":
        pictures.write_npz(out, tuple(images.shape), [images])
        return
    pixels = pictures.to_bytes(images, pipeline.parts.data_range)
    pictures.write_png(out, pictures.grid(pixels, pictures.columns_for(len(pixels))))
