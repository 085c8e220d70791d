"""Reading pictures from files: one list of formats, one set of limits and one meaning for all.

A picture is upright as its EXIF orientation says, laid on white where it is transparent, and of 8
bits. Training, editing and everything else that reads pictures goes through here, so that one file
is the same picture everywhere.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from diffkit.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Channels = Literal[1, 3]
SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""How the names of pictures end, where a folder is searched for them."""
LONGEST_SIDE = 65_535
"""Of a picture, in pixels: as of a JPEG. A strip of one by millions takes seconds to resize."""

# Content decides, not the suffix, and some of Pillow's formats start other programs (EPS).
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_TRANSPARENT = ("LA", "PA", "RGBA", "RGBa")
# What Pillow's decoders are known to raise on broken files, beside its own decompression bombs.
_BROKEN = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def open_picture(path: str | Path, channels: Channels, where: str) -> Image:
    """A picture of mode L (1 channel) or RGB (3), upright, without transparency, of 8 bits.

    PNG, JPEG, WebP, BMP, GIF, TIFF and PNM are read; of an animation the first picture; 16-bit grey
    becomes 8-bit. `where` begins every message.

    Raises:
        DataError: the file is missing, broken, truncated, too large, or of a kind that is not read.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DataError(
            f"{where}: images are read by Pillow, which cannot be imported ({error}); "
            "install `pillow`"
        ) from error
    if not os.path.isfile(path):
        found = "is no regular file" if os.path.exists(path) else "does not exist"
        raise DataError(f"{where}: {path} cannot be read as an image: it {found}")
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _check_size(path, image, where)
            ImageOps.exif_transpose(image, in_place=True)
            return _flattened(path, image, where).convert("L" if channels == 1 else "RGB")
    except bombs as error:
        raise DataError(
            f"{where}: {path} is too large ({error}); shrink it or delete it"
        ) from error
    except _BROKEN as error:
        raise DataError(
            f"{where}: {path} cannot be read as an image: {error or type(error).__name__}; "
            "replace it or delete it"
        ) from error


def fitted(picture: Image, height: int, width: int) -> Image:
    """The picture cropped in its middle to the proportions wanted, and resized by Pillow's
    antialiased Lanczos filter; the picture itself where it has this size.
    """
    from PIL import Image

    if picture.size == (width, height):
        return picture
    # Cropped within the resize, not after it: a strip 1 pixel high never grows to a giant.
    scale = min(picture.width / width, picture.height / height)
    left = (picture.width - scale * width) / 2
    top = (picture.height - scale * height) / 2
    box = (left, top, left + scale * width, top + scale * height)
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=box)


def pixels_of(picture: Image) -> np.ndarray:
    """`[height, width, channels]`, uint8."""
    array = np.array(picture, dtype=np.uint8)
    return array.reshape(picture.height, picture.width, -1)


def _check_size(path: str | Path, image: Image, where: str) -> None:
    """Refuses what Pillow only warns of, before anything is decoded."""
    from PIL import Image

    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if limit is not None and pixels > limit:
        raise DataError(
            f"{where}: {path} is too large: {image.width} x {image.height} are more than "
            f"{limit} pixels; shrink it or delete it"
        )
    if max(image.size) > LONGEST_SIDE:
        raise DataError(
            f"{where}: {path} is too long: {image.width} x {image.height}, and a side may have "
            f"{LONGEST_SIDE} pixels; crop it or delete it"
        )


def _flattened(path: str | Path, image: Image, where: str) -> Image:
    """An image of 8 bits without transparency."""
    from PIL import Image

    # Mode I is also how 16-bit PNG and PNM can come.
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise DataError(
            f"{where}: {path} has 32-bit pixels ({image.mode}), whose range is unknown; "
            "convert it to 8 or 16 bits"
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(image))
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image)
    return image


def _eight_bits(image: Image) -> np.ndarray:
    """16-bit grey as 8-bit; Pillow's own conversion has cut off values in some versions."""
    levels = np.asarray(image).astype(np.int64)
    if image.info.get("transparency") is not None:
        levels[levels == image.info["transparency"]] = 65535
    return ((levels + 128) // 257).clip(0, 255).astype(np.uint8)
