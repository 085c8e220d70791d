"""What the pipeline knows and supplies to the components that ask for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

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


def tokens_problem(facts: Mapping[str, Any]) -> Iterator[str]:
    """Why a network of numbers cannot be asked about such data; for its `requires`."""
    if facts.get("data.dtype") == "int64":
        yield "it computes with numbers, and the data are tokens (int64); take one that embeds them"


def is_fact(source: str) -> bool:
    """Whether what is supplied is a fact, `kind.fact`, and neither a component nor the shape.

    None is supplied where nobody offers such a fact.
    """
    return "." in source and source != "data.shape"


Width = Annotated[int, Gt(0)]
VectorWidth = Annotated[Width | None, Supplied("encoder.vector")]
"""The width of the encoder's `vector`; an argument with the default None."""
TokenWidth = Annotated[Width | None, Supplied("encoder.tokens")]
"""The width of the encoder's `tokens`; an argument with the default None."""
Vocabulary = Annotated[Annotated[int, Gt(0)], Supplied("dataset.vocabulary")]
"""How many different tokens the data have, from 0 on."""

DataType = Literal["float32", "int64"]
"""What samples are: numbers, or tokens."""


@dataclass(frozen=True)
class ConditionInfo:
    """What a dataset says of one of its conditions.

    Args:
        shape: of one row: `()` for one number a sample, `(c, h, w)` for a picture.
        dtype: of the tensor.
        classes: how many classes there are, of a label that counts from 0.
        picture: whether it is a picture of the same scene as the sample, `(c, h, w)`.
        text: whether it is text, as `as_text` writes it; its shape is the bytes of a row.
    """

    shape: tuple[Annotated[int, Gt(0)], ...] = ()
    dtype: Literal["float32", "int64", "uint8", "bool"] = "float32"
    classes: Annotated[int, Gt(0)] | None = None
    picture: bool = False
    text: bool = False


Conditions = Mapping[str, ConditionInfo]
"""What a dataset declares of its conditions, by name."""
