"""Pictures of samples: grids, strips and animations, with Pillow; curves, with matplotlib."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from diffkit.core.data import is_picture
from diffkit.errors import DataError
from diffkit.helpers.files import stream_file, write_file
from diffkit.helpers.finite import finite_rows

if TYPE_CHECKING:
    from PIL import Image

_GAP = 2
_PAPER = 255


def to_bytes(images: Tensor, data_range: tuple[float, float] | None) -> np.ndarray:
    """Images `[n, c, h, w]` as 8-bit `[n, h, w, 3]`, the data's range as black to white.

    Where no range is declared, black and white are the least and the greatest number of each image
    by itself. An image that is not finite is white paper: `Finite` says which, and why.

    Raises:
        DataError: these are not images of 1 or 3 channels.
    """
    if not is_picture(images.shape[1:]):
        raise DataError(
            f"a picture needs images of 1 or 3 channels, not samples of {list(images.shape[1:])}; "
            "write an .npz file"
        )
    images = images.float().cpu()
    low: float | Tensor
    high: float | Tensor
    if data_range is None:
        low, high = (end(images, dim=(1, 2, 3), keepdim=True) for end in (torch.amin, torch.amax))
    else:
        low, high = data_range
    scaled = (images - low) / torch.as_tensor(high - low).clamp(min=1e-12) * 255
    scaled = torch.where(finite_rows(images)[:, None, None, None], scaled, _PAPER)
    array = scaled.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return np.repeat(array, 3, axis=3) if array.shape[3] == 1 else array


def grid(images: np.ndarray, columns: int, scale: int | None = None) -> Image.Image:
    """Images in rows of `columns`, enlarged by a whole factor so that small ones can be seen."""
    from PIL import Image

    count, height, width, _ = images.shape
    if scale is None:
        scale = max(1, 64 // max(height, width))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = height * scale, width * scale
    rows = -(-count // columns)
    shape = (rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3)
    sheet = np.full(shape, _PAPER, dtype=np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = _GAP + row * (height + _GAP), _GAP + column * (width + _GAP)
        sheet[top : top + height, left : left + width] = image
    return Image.fromarray(sheet)


def columns_for(count: int) -> int:
    """The columns of a grid of so many pictures that is about square."""
    return math.ceil(math.sqrt(count))


def strip(stages: Sequence[np.ndarray]) -> Image.Image:
    """A row for each image, a column for each stage `[n, h, w, 3]` of it."""
    rows = np.stack(stages, axis=1)
    return grid(rows.reshape(-1, *rows.shape[2:]), len(stages))


def evenly(states: Iterable[Tensor], count: int) -> list[Tensor]:
    """About `count` states of a trajectory of any length: the first, the last, and some in between.

    At most `4 count` are held at a time. With no more than `count` states, all of them.
    """
    kept: list[Tensor] = []
    stride, last = 1, None
    for position, state in enumerate(states):
        last = state
        if position % stride:
            continue
        kept.append(state)
        if len(kept) > 4 * count:
            kept, stride = kept[::2], 2 * stride
    if last is not None and kept[-1] is not last:
        kept.append(last)
    if len(kept) <= count or count < 2:
        return kept[-count:]
    return [kept[round(i * (len(kept) - 1) / (count - 1))] for i in range(count)]


def side_by_side(left: Image.Image, right: Image.Image, titles: tuple[str, str]) -> Image.Image:
    """Two pictures with a title each."""
    from PIL import Image, ImageDraw

    margin, head = 12, 22
    size = (left.width + right.width + 3 * margin, max(left.height, right.height) + head + margin)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for picture, title, x in (
        (left, titles[0], margin),
        (right, titles[1], 2 * margin + left.width),
    ):
        draw.text((x, 5), title, fill="black")
        sheet.paste(picture, (x, head))
    return sheet


def write_png(path: Path, picture: Image.Image) -> None:
    """Write a picture, whole or not at all. Raises CheckpointError."""
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    write_file(path, content.getvalue())


def write_gif(path: Path, frames: Sequence[Image.Image], milliseconds: int = 80) -> None:
    """Write an animation that rests on its last frame. Raises CheckpointError."""
    content = io.BytesIO()
    durations = [milliseconds] * (len(frames) - 1) + [1500]
    first, *rest = [frame.quantize(64) for frame in frames]
    first.save(content, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    write_file(path, content.getvalue())


def write_npz(
    path: Path, shape: tuple[int, ...], batches: Iterable[Tensor], *, tokens: bool = False
) -> None:
    """Write samples as the array `samples` of this shape, float32, or int64 where they are tokens,
    a batch at a time: no more than one is held.

    Raises CheckpointError; a file that was there stays until the new one is whole.
    """
    descr = "<i8" if tokens else "<f4"

    def content(file: BinaryIO) -> None:
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
            archive.open("samples.npy", "w", force_zip64=True) as array,
        ):
            np.lib.format.write_array_header_1_0(array, header)
            for batch in batches:
                whole = batch.long() if tokens else batch.float()
                array.write(whole.contiguous().numpy().astype(descr, copy=False).tobytes())

    stream_file(path, content)


def write_pngs(
    folder: Path, batches: Iterable[tuple[range, Tensor]], data_range: tuple[float, float] | None
) -> None:
    """Write each image as a file of its own, named by its number; none of one that is not finite.

    Raises CheckpointError.
    """
    from PIL import Image

    for rows, x in batches:
        for number, pixels, good in zip(
            rows, to_bytes(x, data_range), finite_rows(x).tolist(), strict=True
        ):
            if good:
                write_png(folder / f"{number:06d}.png", Image.fromarray(pixels))


def write_curve(path: Path, metrics: Sequence[Mapping[str, float]]) -> None:
    """Plot the loss over the updates. Raises DataError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError("plots need matplotlib: pip install 'diffkit[demo]'") from error
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    steps, losses = [m["step"] for m in metrics], [m["loss"] for m in metrics]
    axes.plot(steps, losses, linewidth=0.6, alpha=0.4, label="mean of each log")
    window = max(1, len(losses) // 20)
    if window > 1:
        smooth = np.convolve(losses, np.full(window, 1 / window), mode="valid")
        axes.plot(steps[window - 1 :], smooth, linewidth=1.5, label=f"mean of {window}")
        axes.legend()
    axes.set(xlabel="update", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3, which="both")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    write_file(path, content.getvalue())
