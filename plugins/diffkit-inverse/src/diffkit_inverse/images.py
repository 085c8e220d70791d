"""Pictures as data of a run, and masks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.arguments import path as file_path
from diffkit.core.data import is_picture
from diffkit.core.denoiser import DataRange
from diffkit.core.image_files import Channels, fitted, open_picture, pixels_of
from diffkit.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Float

_CHANNELS = (1, 3)
_log = logging.getLogger("diffkit")


def read_image(
    path: str | Path,
    shape: Sequence[int],
    data_range: DataRange | None,
    *,
    option: str = "image",
    resize: bool = False,
) -> Float[Tensor, "1 c h w"]:
    """A picture in the channels and the range of the data: black is the range's low end.

    Args:
        path: of a file that `diffkit.core.image_files` reads: PNG, JPEG, WebP, BMP, GIF, TIFF, PNM.
        shape: `(channels, height, width)` wanted; 1 channel is grey, 3 are red, green, blue.
        data_range: what black and white are.
        option: what it was given as, for errors.
        resize: crop and resize a picture of another size, as `image-folder` does, and say so.

    Raises:
        DataError: the file cannot be read, it has another size, or the data are no images or
            declare no range.
    """
    shape = image_shape(shape)
    if data_range is None:
        raise DataError(
            f"{option}: the run's data declare no range, so black and white have no value; "
            "set data.range in its spec"
        )
    channels: Channels = 1 if shape[0] == 1 else 3
    pixels = _pixels(path, channels, shape[1:], option, resize)
    low, high = data_range
    return low + (high - low) / 255.0 * pixels[None].permute(0, 3, 1, 2)


def read_mask(
    path: str | Path, shape: Sequence[int], *, option: str = "mask", resize: bool = False
) -> Float[Tensor, "1 1 h w"]:
    """A picture as a mask: 1 where it is white (to be painted), 0 where it is black (kept).

    What is lighter than half grey counts as white. Raises DataError as `read_image` does, and
    where nothing or everything is white.
    """
    shape = image_shape(shape)
    mask = (_pixels(path, 1, shape[1:], option, resize) > 127.5).float()
    check_mask(mask, f"{option}: {path}")
    return mask.reshape(1, 1, *shape[1:])


def check_mask(mask: Tensor, where: str) -> None:
    """Raise DataError for a mask that leaves nothing to do, or nothing to go by."""
    share = float((mask > 0.5).float().mean())
    if share in (0.0, 1.0):
        found, rest = ("nothing", "kept") if share == 0.0 else ("everything", "painted")
        raise DataError(
            f"{where} has {found} white, so that all of the image would be {rest}; paint white "
            "what is to be painted, and black what is to be kept"
        )


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """The shape, which is that of images of 1 or 3 channels. Raises DataError for others."""
    if not is_picture(shape):
        raise DataError(
            "pictures need images of 1 or 3 channels, and this run's samples have the shape "
            f"{list(shape)}"
        )
    return shape[0], shape[1], shape[2]


def _pixels(
    path: str | Path, channels: Channels, size: tuple[int, int], option: str, resize: bool
) -> Tensor:
    """`[h, w, channels]`, 0 to 255."""
    path = file_path(path, option)
    picture, (height, width) = open_picture(path, channels, option), size
    if picture.size != (width, height):
        found = f"{picture.width} pixels wide and {picture.height} high"
        if not resize:
            raise DataError(
                f"{option}: {path} is {found}, and needs to be {width} wide and {height} high; "
                "bring it to that size, or have it cropped and resized with --resize (resize=True)"
            )
        _log.warning(
            "%s: %s, which is %s, is cropped in its middle to the proportions of the data, and "
            "resized",
            option,
            path,
            found,
        )
    return torch.from_numpy(pixels_of(fitted(picture, height, width))).float()
