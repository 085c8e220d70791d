"""Several encoders as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, final

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from diffkit.core.component import Config, Facts, facts_of, requires_of
from diffkit.core.encoder import MASK, TOKENS, VECTOR, ConditionGroup, Encoder, gives_of
from diffkit.core.model import Condition
from diffkit.errors import ComponentError


@final
class Several(Encoder):
    """What several encoders give, together: of a class and a text, or of two texts.

    Vectors are put one behind the other, `[b, width_1 + width_2 + ...]`, as those of Podell et al.
    (2024), SDXL, section 2.2; tokens, of one width, one after the other, `[b, n_1 + n_2 + ...,
    width]`, with their masks, as those of Esser et al. (2024), section 4. What they give under any
    other name has to be one encoder's alone: see `renamed`. Each one's conditions can be dropped
    and left out without the others'.

    Args:
        encoders: in their order.

    Raises:
        ComponentError: two give tokens of different widths, or the same other name.
    """

    def __init__(self, *, encoders: Annotated[tuple[Encoder, ...], MinLen(1)]) -> None:
        super().__init__()
        if problems := list(_misfits(encoders)):
            raise ComponentError("several: " + "; ".join(problems))
        self.encoders = nn.ModuleList(encoders)
        self._takes = [tuple(facts_of(encoder).get("takes", ())) for encoder in encoders]

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """The facts of all of them together."""
        each = [facts_of(encoder) for encoder in config.encoders]
        found: dict[str, Any] = {name: value for facts in each for name, value in facts.items()}
        found["takes"] = tuple(dict.fromkeys(n for facts in each for n in facts.get("takes", ())))
        found["gives"] = tuple(dict.fromkeys(n for facts in each for n in gives_of(facts)))
        if widths := [facts[VECTOR] for facts in each if facts.get(VECTOR)]:
            found[VECTOR] = sum(widths)
        return found

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """What each of them requires, and that they fit together."""
        for encoder in config.encoders:
            yield from requires_of(encoder, facts)
        yield from _misfits(config.encoders)

    def prepare(self, condition: Condition) -> Condition:
        """What each makes of its own, where that is there, as `<number>.<name>`."""
        found: dict[str, Tensor] = {}
        for number, takes in enumerate(self._takes):
            own = {name: condition[name] for name in takes if name in condition}
            told = self._part(number).prepare(own) if own else {}
            found |= {f"{number}.{name}": value for name, value in told.items()}
        return found

    def null(self, count: int) -> Condition:
        """What each says of its own."""
        return {
            f"{number}.{name}": value
            for number in range(len(self._takes))
            for name, value in self._part(number).null(count).items()
        }

    def groups(self) -> tuple[ConditionGroup, ...]:
        """Those of each; one of all that share a name."""
        found: list[ConditionGroup] = []
        for number in range(len(self._takes)):
            for takes, prepared in self._part(number).groups():
                group = ConditionGroup(takes, tuple(f"{number}.{name}" for name in prepared))
                shared = [other for other in found if set(other.takes) & set(takes)]
                found = [other for other in found if other not in shared]
                found.append(_joined([*shared, group]))
        return tuple(found)

    def forward(self, prepared: Condition) -> Condition:
        """What all of them give."""
        found: dict[str, list[Tensor]] = {}
        for number in range(len(self._takes)):
            own = f"{number}."
            told = {n.removeprefix(own): v for n, v in prepared.items() if n.startswith(own)}
            for name, value in self.encoders[number](told).items():
                found.setdefault(name, []).append(value)
        return {name: torch.cat(values, dim=1) for name, values in found.items()}

    def _part(self, number: int) -> Encoder:
        part = self.encoders[number]
        assert isinstance(part, Encoder)
        return part


def _joined(groups: Sequence[ConditionGroup]) -> ConditionGroup:
    return ConditionGroup(
        tuple(dict.fromkeys(name for group in groups for name in group.takes)),
        tuple(name for group in groups for name in group.prepared),
    )


def _misfits(encoders: Sequence[object]) -> Iterable[str]:
    each = [facts_of(encoder) for encoder in encoders]
    widths = {facts[TOKENS] for facts in each if facts.get(TOKENS)}
    if len(widths) > 1:
        yield (
            f"the encoders give tokens of the widths {', '.join(map(str, sorted(widths)))}, which "
            "cannot stand in one sequence; give them one width, or rename one (the encoder "
            "'renamed' does)"
        )
    given: list[str] = [name for facts in each for name in gives_of(facts)]
    for name in dict.fromkeys(given):
        if given.count(name) > 1 and name not in (VECTOR, TOKENS, MASK):
            yield (
                f"{given.count(name)} encoders give {name}; rename it in one of them (the encoder "
                "'renamed' does)"
            )
