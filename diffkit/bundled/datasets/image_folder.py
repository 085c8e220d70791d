"""Any folder of images."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, final

import torch
from annotated_types import Ge

from diffkit.arguments import expanded
from diffkit.core.component import Config
from diffkit.core.data import Conditions
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import DataRange
from diffkit.core.image_files import SUFFIXES, fitted, open_picture, pixels_of
from diffkit.core.loss import Batch
from diffkit.errors import DataError

_RANGE = (-1.0, 1.0)
_CAPTIONS = "metadata.jsonl"
_log = logging.getLogger("diffkit")


@final
class ImageFolder(Dataset):
    """The images in a folder and the folders in it, cropped to squares of one size.

    PNG, JPEG, WebP, BMP, GIF, TIFF and PNM files, found by their suffix and sorted by path; hidden
    files and folders are left out. Each is turned as its EXIF orientation says, laid on white
    where it is transparent, resized by Pillow's antialiased Lanczos filter so that its short side
    is `size`, and cropped to the square in its middle. Of an animation the first picture counts;
    16-bit grey becomes 8-bit. Values 0 to 255 become [-1, 1]. Images are read when they are
    asked for.

    Captions are read from files `metadata.jsonl` where there are some: on each line
    `{"file_name": "a/b.png", "text": "a caption"}`, the name relative to the file's own folder,
    which is the convention of Hugging Face's image folders; other keys are left alone. They are
    strings, so that no batch holds them: see `captions`.

    Args:
        folder: the folder. Nothing outside of it is read, not even through a link.
        size: the height and width of the samples, in pixels.
        channels: 3 for colour, 1 for grey.
        unreadable: what is done about an image that cannot be read. "skip" takes the next one that
            can in its place, and says which; `skipped` has their names.

    Raises:
        DataError: the folder is missing or has no images, a link leads out of it, or a
            `metadata.jsonl` is wrong.
    """

    def __init__(
        self,
        *,
        folder: str,
        size: Annotated[int, Ge(1)],
        channels: Literal[1, 3] = 3,
        unreadable: Literal["error", "skip"] = "error",
    ) -> None:
        self._folder = _existing(folder)
        files = sorted(_files(self._folder), key=lambda file: file.relative_to(self._folder).parts)
        self._paths = [file for file in files if file.suffix.lower() in SUFFIXES]
        if not self._paths:
            raise DataError(
                f"image-folder: {folder} has no images; their names end in "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        captions: dict[Path, str | None] = {}
        images = frozenset(self._paths)
        for file in files:
            if file.name == _CAPTIONS:
                captions.update(_read_captions(file, images))
        self._captions = tuple(captions.get(path) for path in self._paths)
        self._size = size
        self._channels = channels
        self._skips = unreadable == "skip"
        self._skipped: dict[Path, str] = {}

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """`shape`, `range` and no `conditions`, from the configuration alone once the folder
        exists.
        """
        _existing(config.folder)
        shape = (config.channels, config.size, config.size)
        return {"shape": shape, "range": _RANGE, "conditions": {}}

    @property
    def shape(self) -> tuple[int, ...]:
        """`(channels, size, size)`."""
        return (self._channels, self._size, self._size)

    @property
    def range(self) -> DataRange | None:
        """[-1, 1]."""
        return _RANGE

    @property
    def captions(self) -> tuple[str | None, ...]:
        """The caption of each sample, None for one that has none."""
        return self._captions

    @property
    def skipped(self) -> tuple[Path, ...]:
        """The images that could not be read so far, in the order in which they were met."""
        return tuple(self._skipped)

    @property
    def conditions(self) -> Conditions:
        """None: captions are strings, which no batch holds."""
        return {}

    def __len__(self) -> int:
        return len(self._paths)

    def batch(self, indices: Sequence[int]) -> Batch:
        """`x_0` `[b, channels, size, size]` in [-1, 1].

        Raises:
            DataError: an image is broken, truncated, too large or of a kind that is not read.
        """
        pixels = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        for row, index in enumerate(indices):
            pixels[row] = self._read(index) if self._skips else self._square(self._paths[index])
        return Batch(pixels.to(torch.float32).div_(127.5).sub_(1.0))

    def _read(self, index: int) -> torch.Tensor:
        """The image at this index, or the next that can be read: a function of the files alone."""
        for offset in range(len(self._paths)):
            path = self._paths[(index + offset) % len(self._paths)]
            if path in self._skipped:
                continue
            try:
                return self._square(path)
            except DataError as error:
                self._skipped[path] = str(error)
                _log.warning("skipped, the %d. so far: %s", len(self._skipped), error)
        raise DataError(f"image-folder: none of the images in {self._folder} can be read")

    def _square(self, path: Path) -> torch.Tensor:
        picture = open_picture(path, self._channels, "image-folder")
        pixels = pixels_of(fitted(picture, self._size, self._size))
        return torch.from_numpy(pixels).permute(2, 0, 1)


def _existing(given: str) -> Path:
    folder = expanded(given)
    if not os.path.isdir(folder):
        found = "is a file" if os.path.exists(folder) else "does not exist"
        raise DataError(f"image-folder: {folder} {found}; give the path of a folder of images")
    return folder.resolve()


def _files(root: Path) -> Iterator[Path]:
    """The images and caption files under `root`, in no order.

    Links to folders are not entered: each is a second way to what is found anyway, or leads
    outside.
    """
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        except OSError as error:
            raise DataError(f"image-folder: {folder} cannot be read: {error.strerror}") from error
        for entry in entries:
            path = Path(entry.path)
            wanted = path.name == _CAPTIONS or path.suffix.lower() in SUFFIXES
            if entry.is_symlink() and (wanted or os.path.isdir(path)):
                _check_link(path, root)
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif wanted and os.path.isfile(path):
                yield path


def _check_link(link: Path, root: Path) -> None:
    target = Path(os.path.realpath(link))
    if not target.is_relative_to(root):
        raise DataError(
            f"image-folder: {link} is a link out of the folder, to {target}; nothing outside is "
            "read: put a copy in its place, or delete it"
        )
    if not os.path.exists(target):
        raise DataError(f"image-folder: {link} is a link that leads to no file; delete it")


def _read_captions(file: Path, images: frozenset[Path]) -> dict[Path, str | None]:
    """The captions in one `metadata.jsonl`, by image."""
    captions: dict[Path, str | None] = {}
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"image-folder: {file} cannot be read as UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"image-folder: {file}, line {number}"
        name, caption = _parse_caption(line, where)
        path = file.parent / name
        if path not in images:
            raise DataError(
                f"{where}: file_name {name!r} is none of the images in the folder; "
                "correct the name, or delete the line"
            )
        if path in captions:
            raise DataError(f"{where}: file_name {name!r} has a line already; keep one of them")
        captions[path] = caption
    return captions


def _parse_caption(line: str, where: str) -> tuple[str, str | None]:
    """The name and the caption on one line."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}") from error
    name = record.get("file_name") if isinstance(record, dict) else None
    if not isinstance(name, str):
        raise DataError(f'{where} has no name; expected {{"file_name": "...", "text": "..."}}')
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(
            f"{where}: file_name {name!r} leads out of the folder of the file; "
            "give a path relative to it, without '..'"
        )
    caption = record.get("text")
    if caption is not None and not isinstance(caption, str):
        raise DataError(f"{where}: text is {caption!r}; a caption is a string")
    return name, caption
