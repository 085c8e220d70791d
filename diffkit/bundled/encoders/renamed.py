"""Another encoder under other names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, final

from torch import Tensor

from diffkit.core.component import Config, Facts, facts_of, requires_of
from diffkit.core.encoder import ConditionGroup, Encoder, gives_of
from diffkit.core.model import Condition
from diffkit.errors import ComponentError


@final
class Renamed(Encoder):
    """An encoder whose conditions are called otherwise: a second text, or a vector of its own.

    Widths keep to their names: a `vector` that is called `style` is the fact `style`, which a model
    is supplied with by `Supplied("encoder.style")`.

    Args:
        encoder: the one that is meant.
        takes: by the name that it takes, what the dataset calls it: `{"caption": "title"}`.
        gives: by the name that it gives, what the model calls it: `{"vector": "style"}`.

    Raises:
        ComponentError: it neither takes nor gives such a name; or two have the same new one.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        takes: dict[str, str] | None = None,
        gives: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._takes, self._gives = dict(takes or {}), dict(gives or {})
        if problems := list(_misfits(encoder, self._takes, self._gives)):
            raise ComponentError("renamed: " + "; ".join(problems))
        self.encoder = encoder

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """The encoder's, by the new names."""
        facts, gives = facts_of(config.encoder), dict(config.gives or {})
        found = {gives.get(name, name): value for name, value in facts.items()}
        found["takes"] = _renamed(facts.get("takes", ()), config.takes)
        found["gives"] = _renamed(gives_of(facts), gives)
        return found

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """What the encoder requires, and names that there are."""
        yield from requires_of(config.encoder, facts)
        yield from _misfits(config.encoder, config.takes or {}, config.gives or {})

    def prepare(self, condition: Condition) -> Condition:
        """What the encoder makes of them; what is called like a condition, by its new name."""
        back = {new: old for old, new in self._takes.items()}
        told = self.encoder.prepare({back.get(n, n): value for n, value in condition.items()})
        return self._by_new(told)

    def null(self, count: int) -> Condition:
        """The encoder's."""
        return self._by_new(self.encoder.null(count))

    def groups(self) -> tuple[ConditionGroup, ...]:
        """The encoder's, by the new names."""
        return tuple(
            ConditionGroup(_renamed(g.takes, self._takes), _renamed(g.prepared, self._takes))
            for g in self.encoder.groups()
        )

    def forward(self, prepared: Condition) -> Condition:
        """What the encoder gives, by the new names."""
        back = {new: old for old, new in self._takes.items()}
        given = self.encoder({back.get(name, name): value for name, value in prepared.items()})
        return {self._gives.get(name, name): value for name, value in given.items()}

    def _by_new(self, told: Condition) -> dict[str, Tensor]:
        return {self._takes.get(name, name): value for name, value in told.items()}


def _renamed(names: Iterable[str], changes: Mapping[str, str] | None) -> tuple[str, ...]:
    return tuple((changes or {}).get(name, name) for name in names)


def _misfits(encoder: object, takes: Mapping[str, str], gives: Mapping[str, str]) -> Iterable[str]:
    facts = facts_of(encoder)
    if not facts:
        return
    for what, there, changes in (
        ("takes", tuple(facts.get("takes", ())), takes),
        ("gives", gives_of(facts), gives),
    ):
        if unknown := sorted(changes.keys() - set(there)):
            yield (
                f"{what} names {', '.join(unknown)}, and the encoder {what} "
                f"{', '.join(there) or 'none'}"
            )
        if len(set(_renamed(there, changes))) < len(there):
            yield f"{what} gives two of its conditions one name: {', '.join(changes.values())}"
