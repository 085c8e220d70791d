"""What the pipeline knows and supplies to the components that ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, MinLen

PICTURE_CHANNELS = (1, 3)


def is_picture(shape: Sequence[int]) -> bool:
    """Whether samples of this shape are pictures: `(c, h, w)`, with 1 channel or 3.

    One channel is grey, three are red, green and blue. Points, signals and volumes are none.
    """
    return len(shape) == 3 and shape[0] in PICTURE_CHANNELS


@dataclass(frozen=True)
class Supplied:
    """Marks an `__init__` argument that the pipeline fills in where the user gives none."""

    by: str


@dataclass(frozen=True)
class InCode:
    """Marks an `__init__` argument that only code can give: a module, a function.

    No file holds it. A component that has one is made in code, and given as an instance to
    `diffkit.build` and `diffkit.load`.
    """


DataShape = Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1), Supplied("data.shape")]
"""The shape of one sample. A component with such an argument is given the pipeline's."""

FACTS = ("encoder.vector", "encoder.tokens")
"""What is supplied of the facts of another component: None where that is not there."""

Width = Annotated[int, Gt(0)]
VectorWidth = Annotated[Width | None, Supplied("encoder.vector")]
"""The width of the encoder's `vector`; an argument with the default None."""
TokenWidth = Annotated[Width | None, Supplied("encoder.tokens")]
"""The width of the encoder's `tokens`; an argument with the default None."""
