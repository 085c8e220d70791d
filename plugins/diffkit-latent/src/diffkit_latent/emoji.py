"""Emoji as captioned images: a real data set that needs no download."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, final

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from diffkit import as_text
from diffkit.arguments import expanded
from diffkit.core.component import Config
from diffkit.core.data import ConditionInfo, Conditions
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import DataRange
from diffkit.core.loss import Batch
from diffkit.errors import DataError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

_RANGE = (-1.0, 1.0)
_STRIKE = 109
"""The one size that the font's bitmaps have, in pixels to the em."""
_CANVAS = (136, 128)
_SEARCHED = (range(0x2000, 0x3300), range(0x1F000, 0x1FB00))
_BLOCKS = (0x1F3, 0x1F4, 0x1F5, 0x1F6, 0x1F9, 0x1FA)
_CAPTION_LENGTH = 96
_CONDITIONS = {
    "caption": ConditionInfo(shape=(_CAPTION_LENGTH,), dtype="uint8", text=True),
    "label": ConditionInfo(dtype="int64", classes=len(_BLOCKS) + 1),
}


@final
class Emoji(Dataset):
    """The pictures of a colour font of bitmaps, each captioned by its name in Unicode.

    Every single code point that the font draws and that this python's Unicode data name, in their
    order; sequences (flags, skin tones, families) are left out. Laid on white, padded to a square
    and resized by Pillow's antialiased Lanczos filter. Values 0 to 255 become [-1, 1].

    Conditions: `caption`, the lower-cased name as UTF-8 bytes `[b, 96]`, and `label`, 0 to 6: the
    256 code points that it is among (1F3xx weather, plants, food and sport; 1F4xx animals, bodies
    and things; 1F5xx; 1F6xx faces and transport; 1F9xx; 1FAxx), and all others.

    Args:
        size: the height and width of the samples, in pixels.
        font: the file; the default is where Debian's fonts-noto-color-emoji puts it.

    Raises:
        DataError: there is no such file, or it is no colour font with strikes of 109 pixels.
    """

    def __init__(
        self,
        *,
        size: Annotated[int, Ge(1)] = 64,
        font: str = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    ) -> None:
        self._size = size
        self._font = _opened(font)
        self._points = [
            point
            for points in _SEARCHED
            for point in points
            if unicodedata.name(chr(point), None) and _is_drawn(self._font, chr(point))
        ]
        if not self._points:
            raise DataError(f"emoji: {font} draws none of the emoji; give a font that does")

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """`shape`, `range` and `conditions`; nothing is drawn."""
        _existing(config.font)
        shape = (3, config.size, config.size)
        return {"shape": shape, "range": _RANGE, "conditions": _CONDITIONS}

    @property
    def shape(self) -> tuple[int, ...]:
        """`(3, size, size)`."""
        return (3, self._size, self._size)

    @property
    def range(self) -> DataRange | None:
        """[-1, 1]."""
        return _RANGE

    @property
    def captions(self) -> tuple[str, ...]:
        """The caption of each sample."""
        return tuple(unicodedata.name(chr(point)).lower() for point in self._points)

    @property
    def conditions(self) -> Conditions:
        """`caption` and `label`."""
        return _CONDITIONS

    def __len__(self) -> int:
        return len(self._points)

    def batch(self, indices: Sequence[int]) -> Batch:
        """`x_0` `[b, 3, size, size]` in [-1, 1]; each is drawn when it is first asked for."""
        rows = torch.tensor(list(indices), dtype=torch.int64)
        pixels = torch.stack([self._picture(index) for index in rows.tolist()])
        conditions = {name: value[rows] for name, value in self._conditions.items()}
        return Batch(pixels.to(torch.float32).div_(127.5).sub_(1.0), conditions)

    def _picture(self, index: int) -> Tensor:
        """`[3, size, size]`, uint8."""
        found = self._pictures.get(index)
        if found is None:
            drawn = _drawn(self._font, chr(self._points[index]), self._size)
            found = torch.from_numpy(drawn).permute(2, 0, 1).contiguous()
            self._pictures[index] = found
        return found

    @cached_property
    def _pictures(self) -> dict[int, Tensor]:
        return {}

    @cached_property
    def _conditions(self) -> dict[str, Tensor]:
        blocks = [point >> 8 for point in self._points]
        labels = [_BLOCKS.index(b) if b in _BLOCKS else len(_BLOCKS) for b in blocks]
        return {
            "caption": as_text(list(self.captions), _CAPTION_LENGTH),
            "label": torch.tensor(labels, dtype=torch.int64),
        }


def _existing(font: str) -> None:
    if not os.path.isfile(expanded(font)):
        raise DataError(
            f"emoji: there is no font {font}; install it (Debian: fonts-noto-color-emoji), or "
            "give the path of another in `font`"
        )


def _opened(font: str) -> FreeTypeFont:
    from PIL import ImageFont

    _existing(font)
    try:
        # The basic layout: one code point is one picture, and nothing is to be shaped.
        return ImageFont.truetype(
            str(expanded(font)), _STRIKE, layout_engine=ImageFont.Layout.BASIC
        )
    except OSError as error:
        raise DataError(
            f"emoji: {font} cannot be read as a font with pictures of {_STRIKE} pixels: {error}; "
            "give the path of another in `font`"
        ) from error


def _is_drawn(font: FreeTypeFont, character: str) -> bool:
    _, top, _, bottom = font.getbbox(character)
    return bottom > top


def _drawn(font: FreeTypeFont, character: str, size: int) -> np.ndarray:
    """`[size, size, 3]`, uint8."""
    from PIL import Image, ImageDraw

    width, height = _CANVAS
    picture = Image.new("RGBA", (width, width), (255, 255, 255, 255))
    drawn = Image.new("RGBA", (width, width), (255, 255, 255, 0))
    at = (0, (width - height) // 2)
    ImageDraw.Draw(drawn).text(at, character, font=font, embedded_color=True)
    whole = Image.alpha_composite(picture, drawn).convert("RGB")
    return np.array(whole.resize((size, size), Image.Resampling.LANCZOS), dtype=np.uint8)
