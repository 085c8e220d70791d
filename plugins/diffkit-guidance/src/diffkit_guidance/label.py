"""Classes as a condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, final

import torch
from annotated_types import Gt
from torch import nn

from diffkit.core.component import Config
from diffkit.core.encoder import VECTOR, Encoder
from diffkit.core.model import Condition
from diffkit.errors import DataError

LABEL = "label"


@final
class Label(Encoder):
    """A learned vector for each class, and one for none: `label` `[b]` to `vector` `[b, width]`.

    Dhariwal & Nichol (2021), section 4; the class for none is Ho & Salimans (2022), section 3.2.

    Args:
        classes: how many there are; labels are 0 to `classes - 1`.
        width: of the vector.
    """

    def __init__(
        self, *, classes: Annotated[int, Gt(0)], width: Annotated[int, Gt(0)] = 128
    ) -> None:
        super().__init__()
        self._classes = classes
        self.vectors = nn.Embedding(classes + 1, width)

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """It takes `label` and gives a vector."""
        return {"takes": (LABEL,), VECTOR: config.width}

    def prepare(self, condition: Condition) -> Condition:
        """`label` as int64. Raises DataError where one is no class."""
        label = condition[LABEL]
        if label.ndim != 1 or label.is_floating_point():
            raise DataError(
                f"label is one whole number a sample, [b], not {label.dtype} of the shape "
                f"{list(label.shape)}"
            )
        wrong = label[(label < 0) | (label >= self._classes)]
        if len(wrong):
            raise DataError(
                f"label {int(wrong[0])} is none of the {self._classes} classes; they are 0 to "
                f"{self._classes - 1}, as the encoder's `classes` says"
            )
        return {LABEL: label.to(torch.int64)}

    def null(self, count: int) -> Condition:
        """The class for none, which is behind the others."""
        return {LABEL: torch.full((count,), self._classes)}

    def forward(self, prepared: Condition) -> Condition:
        """The vectors."""
        return {VECTOR: self.vectors(prepared[LABEL])}
