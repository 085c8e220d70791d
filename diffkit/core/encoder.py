"""Encoder: what a class, a text or another condition is to a network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from diffkit.core.component import Component
from diffkit.core.model import Condition

VECTOR, TOKENS, MASK = "vector", "tokens", "mask"
"""The names of the conditions that encoders give."""

Given = Mapping[str, Tensor | str | int | Sequence[str] | Sequence[int]]
"""Conditions as people give them: texts, numbers, lists of either, or tensors; a row a sample."""


class Encoder(nn.Module, Component):
    """Turns the conditions that a dataset gives into those that a network takes.

    Facts: `takes`, the names of the dataset's conditions that it reads; `vector` and `tokens`,
    the widths of what it gives under these names, where it does: `vector` `[b, width]`, one a
    sample, and `tokens` `[b, n, width]`, a sequence, with `mask` `[b, n]`, true where a token
    counts. At least one token of each sample counts. Tokens that do not count change nothing.

    Its parameters are trained with the network's. An encoder that is fixed has parameters without
    gradients, or keeps its network out of its own modules, so that checkpoints do not hold it.
    """

    kind: ClassVar[str] = "encoder"

    def prepare(self, condition: Condition) -> Condition:
        """A dataset's conditions as `forward` takes them: on the host, batch first, of one shape.

        This is where text becomes token numbers; numbers pass as they are unless overridden.
        Raises DataError where a value is none that it knows.
        """
        return condition

    @abstractmethod
    def null(self, count: int) -> Condition:
        """What stands for no condition, prepared, for so many samples, on the host."""

    @abstractmethod
    def forward(self, prepared: Condition) -> Condition:
        """The conditions of the network, from prepared ones on the device."""
