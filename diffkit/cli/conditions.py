"""Conditions and inputs of samples, as they are named on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from diffkit.arguments import expanded

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diffkit.core.data import ConditionInfo
    from diffkit.pipeline import Pipeline

_Command = TypeVar("_Command", bound=Callable[..., Any])
_ROWS = re.compile(r":(\d[\d,\-]*)$")
_FILES = (
    "a .npz or .npy array, a .txt file of one row a line, a picture, or a folder of pictures, "
    "sorted by name"
)
_DATA = "data"
"""What the run's own dataset is called."""


def condition_options(command: _Command) -> _Command:
    """Add `--condition`, `--input` and `--like`."""
    for name, metavar, text in (
        (
            "--like",
            "DATASET[:ROWS]",
            "Take the conditions of these data: 'data' is the run's, or a name, or {id, config}; "
            "ROWS as in 0-15 or 3,7.",
        ),
        (
            "--input",
            "NAME=FILE",
            f"What the sampler asks for beside noise, from {_FILES}; repeatable. Rows are taken in "
            "turn, of one name in the order of the files.",
        ),
        (
            "--condition",
            "NAME=VALUE|@FILE",
            f"A condition: a text, numbers (3 or 1,4,7), or after @ a file: {_FILES}; repeatable. "
            "Rows are taken in turn, of one name in the order given, after --prompt and --label.",
        ),
    ):
        option = click.option(name, metavar=metavar, multiple=name != "--like", help=text)
        command = option(command)
    return command


def pairs_of(option: str, given: Iterable[str]) -> list[tuple[str, str]]:
    """NAME=VALUE, split. Raises UsageError."""
    found = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value:
            raise click.UsageError(f"{option} {text}: give it as NAME=VALUE")
        found.append((name.strip(), value))
    return found


def conditions_from(
    pipeline: Pipeline,
    num: int,
    pairs: Sequence[tuple[str, str]],
    like: str | None,
    plain: Mapping[str, Sequence[Any]],
    guidance: Any = None,
) -> dict[str, Any]:
    """The conditions of so many samples; what is named on its own goes before `like`.

    `plain` are values by name, taken in turn. Raises UsageError, DataError, SpecError.
    """
    declared = pipeline.parts.flow.declared or {}
    found: dict[str, Any] = {} if like is None else _like(pipeline, like, num, guidance)
    by_name: dict[str, list[Tensor | list[Any]]] = {
        name: [list(values)] for name, values in plain.items() if values
    }
    for name, text in pairs:
        values = _values(name, text, declared.get(name.removeprefix("negative_")))
        by_name.setdefault(name, []).append(values)
    for name, parts in by_name.items():
        rows = _joined("--condition", name, parts)
        if isinstance(rows, list):
            found[name] = [rows[i % len(rows)] for i in range(num)]
        else:
            found[name] = _in_turn(rows, num)
    return found


def inputs_from(
    pipeline: Pipeline, num: int, pairs: Sequence[tuple[str, str]]
) -> dict[str, Tensor] | None:
    """The inputs of the sampler, of the shape of samples where they are pictures."""
    from diffkit.core.data import ConditionInfo, is_picture

    shape = pipeline.parts.sample_shape
    picture = ConditionInfo(shape=shape, picture=True) if is_picture(shape) else None
    by_name: dict[str, list[Tensor | list[Any]]] = {}
    for name, text in pairs:
        by_name.setdefault(name, []).append(_file(name, text, picture))
    found = {n: _in_turn(_joined("--input", n, parts), num) for n, parts in by_name.items()}
    return found or None


def _joined(option: str, name: str, parts: Sequence[Tensor | list[Any]]) -> Tensor | list[Any]:
    """The rows of all that was given by one name, in order. Raises UsageError: they do not join."""
    import torch

    if all(isinstance(part, list) for part in parts):
        return [value for part in parts for value in part]
    if any(isinstance(value, str) for part in parts if isinstance(part, list) for value in part):
        raise click.UsageError(
            f"{option} {name}: it is given as texts and as the rows of a file of numbers, which do "
            "not join; give it in one way"
        )
    rows = [torch.tensor(part) if isinstance(part, list) else part for part in parts]
    shapes = dict.fromkeys(str(list(part.shape[1:])) for part in rows)
    if len(shapes) > 1:
        raise click.UsageError(
            f"{option} {name}: it is given several times, with rows of the shapes "
            f"{', '.join(shapes)}, which do not join; give rows of one shape"
        )
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _like(pipeline: Pipeline, like: str, num: int, guidance: Any) -> dict[str, Any]:
    from diffkit.api import make
    from diffkit.assembly.drawn_rows import rows_with
    from diffkit.cli.options import choice_of
    from diffkit.core.dataset import Dataset
    from diffkit.core.guidance import Guidance

    match = _ROWS.search(like)
    name = like[: match.start()] if match else like
    if name == _DATA:
        dataset = pipeline.dataset()
    else:
        made = make("dataset", choice_of("like", name), host=pipeline.host)
        assert isinstance(made, Dataset)
        dataset = made
    rows = list(range(len(dataset))) if match is None else _rows(like, match[1])
    if beyond := [row for row in rows if row >= len(dataset)]:
        raise click.UsageError(f"--like {like}: there is no row {beyond[0]} of {len(dataset)}")
    parts = pipeline.parts
    chosen = guidance if isinstance(guidance, Guidance) else parts.guidance
    also = () if chosen is None else chosen.takes
    wanted = dict.fromkeys((*parts.taken, *parts.process.prior_takes, *also))
    if not wanted:
        raise click.UsageError("--like: this run's model takes no conditions")
    read = rows_with(dataset, [rows[i % len(rows)] for i in range(num)], wanted)
    return dict(read.condition)


def _rows(like: str, text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and (not last.isdigit() or int(last) < int(first))):
            raise click.UsageError(f"--like {like}: rows are numbers and ranges, as in 0-15 or 3,7")
        found += range(int(first), int(last or first) + 1)
    return found


def _values(name: str, text: str, info: ConditionInfo | None) -> Tensor | list[Any]:
    """A list of texts or numbers, or the rows of a file."""
    if text.startswith("@"):
        return _file(name, text[1:], info)
    if info is not None and info.text:
        return [text]
    return _numbers(text.split(",")) or [text]


def _numbers(texts: Sequence[str]) -> list[Any] | None:
    """Whole numbers, or numbers; None where one is neither."""
    for kind in (int, float):
        try:
            return [kind(text) for text in texts]
        except ValueError:
            continue
    return None


def _file(name: str, text: str, info: ConditionInfo | None) -> Tensor | list[Any]:
    from diffkit.core.image_files import SUFFIXES
    from diffkit.errors import DataError

    path = Path(expanded(text))
    suffix = path.suffix.lower()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise DataError(f"{name}: the folder {path} has no pictures")
        return _pictures(name, files, info)
    if not path.is_file():
        raise DataError(f"{name}: there is no file {path}")
    if suffix in SUFFIXES:
        return _pictures(name, [path], info)
    if suffix in (".npy", ".npz"):
        return _array(name, path, info)
    if suffix == ".txt":
        return _lines(name, path, info)
    raise DataError(f"{name}: {path} is none of what is read: {_FILES}")


def _lines(name: str, path: Path, info: ConditionInfo | None) -> list[Any]:
    from diffkit.errors import DataError

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: {path} cannot be read as UTF-8 text: {error}") from error
    if not lines:
        raise DataError(f"{name}: {path} is empty; give one row a line")
    numbers = None if info is not None and info.text else _numbers(lines)
    return numbers or lines


def _array(name: str, path: Path, info: ConditionInfo | None) -> Tensor:
    import numpy as np

    from diffkit.errors import DataError

    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found as archive:
                if name not in archive.files and len(archive.files) != 1:
                    raise DataError(
                        f"{name}: {path} has the arrays {', '.join(archive.files) or 'none'}; name "
                        f"one of them {name}"
                    )
                found = archive[name if name in archive.files else archive.files[0]]
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{name}: {path} cannot be read as plain arrays: {error}") from error
    if found.ndim == 0 or len(found) == 0 or found.dtype.kind not in "iufb":
        raise DataError(f"{name}: {path} holds {found.dtype} {found.shape}; give numbers, in rows")
    return _tensor(found, info)


def _tensor(array: np.ndarray, info: ConditionInfo | None) -> Tensor:
    """Pixels in [-1, 1]; whole numbers as they are; others float32."""
    import numpy as np
    import torch

    if info is not None and info.picture and array.dtype == np.uint8:
        array = array[:, None] if array.ndim == len(info.shape) else array
        return torch.from_numpy(np.ascontiguousarray(array)).float().div_(127.5).sub_(1.0)
    if info is not None:
        return torch.from_numpy(np.ascontiguousarray(array)).to(getattr(torch, info.dtype))
    kind = np.int64 if array.dtype.kind in "iu" else np.float32
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind))


def _pictures(name: str, files: Sequence[Path], info: ConditionInfo | None) -> Tensor:
    """`[n, c, h, w]` in [-1, 1], of the declared size; of the first's where none is."""
    import torch

    from diffkit.core.image_files import fitted, open_picture, pixels_of

    shape = info.shape if info is not None and len(info.shape) == 3 else None
    rows = []
    for file in files:
        picture = open_picture(file, 1 if shape and shape[0] == 1 else 3, name)
        if shape is None:
            shape = (3, picture.height, picture.width)
        pixels = pixels_of(fitted(picture, shape[1], shape[2]))
        rows.append(torch.from_numpy(pixels).permute(2, 0, 1))
    return torch.stack(rows).float().div_(127.5).sub_(1.0)


def _in_turn(values: Tensor | list[Any], num: int) -> Any:
    """Rows for so many samples."""
    import torch

    if isinstance(values, list):
        values = torch.tensor(values)
    if len(values) == 1:
        return values
    return values[torch.arange(num) % len(values)]
