"""Samples that are not finite: which they are, and what is said of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_NAMED = 10
_WHY = (
    "Likely causes: weights that are not finite (of a run that diverged, or of another file); a "
    "trajectory that diverged (leave clip on where the data have a range, take more steps, or "
    "another sampler); a scale of guidance that is too large; or precision bfloat16"
)


class NotFiniteWarning(UserWarning):
    """Samples are NaN or infinite."""


class Finite:
    """Looks at samples on the host, and remembers the numbers of those that are not finite."""

    def __init__(self) -> None:
        self.seen, self.numbers = 0, list[int]()

    def look(self, rows: range, x: Tensor) -> Tensor:
        """The samples, as they are; `rows` are their numbers."""
        self.seen += len(rows)
        self.numbers += [rows[place] for place in (~finite_rows(x)).nonzero()[:, 0].tolist()]
        return x

    def said(self) -> str | None:
        """Which samples are not finite, and why that may be; None where all are."""
        if not self.numbers:
            return None
        named = ", ".join(map(str, self.numbers[:_NAMED]))
        more = len(self.numbers) - _NAMED
        which = f"{named} and {more} more" if more > 0 else named
        return (
            f"{len(self.numbers)} of {self.seen} samples are not finite (NaN or infinite): "
            f"number {which}. {_WHY}"
        )

    def warn(self) -> None:
        """Warn of samples that are not finite, if there are any."""
        if (said := self.said()) is not None:
            warnings.warn(said, NotFiniteWarning, stacklevel=3)


def finite_rows(x: Tensor) -> Tensor:
    """Whether each sample is finite, `[b]`."""
    return x.flatten(1).isfinite().all(dim=1) if x.numel() else torch.ones(len(x), dtype=torch.bool)


@contextmanager
def no_warning() -> Iterator[None]:
    """Within this, samples that are not finite are the caller's to report."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotFiniteWarning)
        yield
