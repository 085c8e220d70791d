"""Encoder: what a class, a text or another condition is to a network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from diffkit.core.component import Component, facts_of
from diffkit.core.model import Condition

VECTOR, TOKENS, MASK = "vector", "tokens", "mask"
"""The names of the conditions whose widths encoders declare as facts."""

Given = Mapping[str, Tensor | str | float | Sequence[str] | Sequence[float]]
"""Conditions as people give them: texts, numbers, lists of either, or tensors; a row a sample."""


class ConditionGroup(NamedTuple):
    """Conditions that an encoder takes, and drops, together."""

    takes: tuple[str, ...]
    """As datasets call them."""
    prepared: tuple[str, ...]
    """What `prepare` makes of them, and what `null` has in their place."""


def gives_of(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of what an encoder with these facts gives: those in `gives`, and those that it
    declares a width of.
    """
    found = list(facts.get("gives", ()))
    found += [VECTOR] if facts.get(VECTOR) else []
    found += [TOKENS, MASK] if facts.get(TOKENS) else []
    return tuple(dict.fromkeys(found))


class Encoder(nn.Module, Component):
    """Turns the conditions that a dataset gives into those that a network takes.

    Facts: `takes`, the names of the dataset's conditions that it reads; `gives`, the names of what
    it gives; `vector` and `tokens`, the widths of what it gives under these names, which need not
    be in `gives` too: `vector` `[b, width]`, one a sample, and `tokens` `[b, n, width]`, a
    sequence, with `mask` `[b, n]`, true where a token counts. At least one token of each sample
    counts. Tokens that do not count change nothing. Whatever else a model has to know is a fact of
    any name, `encoder.<name>` to the model.

    Conditions that it does not take and the model does pass as they are.

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

    def groups(self) -> tuple[ConditionGroup, ...]:
        """Its conditions by groups, each of which can be left out, and dropped, without the others.

        One group of all, unless overridden. With several, `prepare` has to take any of them;
        `forward` is given `null` in the place of the others.
        """
        return (ConditionGroup(tuple(facts_of(self).get("takes", ())), tuple(self.null(1))),)

    @abstractmethod
    def forward(self, prepared: Condition) -> Condition:
        """The conditions of the network, from prepared ones on the device."""
