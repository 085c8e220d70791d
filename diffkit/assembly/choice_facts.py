"""What one choice says of itself and of the others, before anything large is made."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from diffkit.assembly.blueprint import Choice, Problem
from diffkit.assembly.references import with_references
from diffkit.config.spec import ComponentSpec, DataSpec
from diffkit.core.component import Config, Described, Facts, arguments_of
from diffkit.core.data import is_fact
from diffkit.errors import DiffkitError
from diffkit.plugins.isolation import cause_of

SHAPE = "data.shape"
_Answer = TypeVar("_Answer")


def objections(choice: Choice, config: Config, facts: Facts) -> tuple[Problem, ...]:
    """What a component says of the others; or why it cannot say, as where it reads files."""

    def required() -> list[str]:
        return list(choice.component.requires(config, facts))

    found, wrong = asked(choice.kind, "requires", required)
    return (*wrong, *(Problem(f"{choice.kind}: {text}") for text in found or []))


def filled_in(choice: Choice, seen: DataSpec, facts: Facts) -> Config:
    """The configuration of a component, with what the pipeline supplies of the data."""
    if choice.instance is not None:
        return cast(Config, SimpleNamespace(**arguments_of(choice.instance)))

    def nested(place: str, reference: ComponentSpec) -> object:
        inner = choice.nested.get(place)
        if inner is None or not inner.readable:
            return reference
        return Described(inner.component, filled_in(inner, seen, facts))

    values = dict.fromkeys(choice.in_code) | {
        name: with_references(value, name, nested) for name, value in choice.arguments.items()
    }
    for name, source in choice.supplied.items():
        if values[name] is None and (source == SHAPE or is_fact(source)):
            values[name] = fact_supplied(source, seen, facts)
    return cast(Config, SimpleNamespace(**values))


def fact_supplied(source: str, seen: DataSpec, facts: Facts) -> Any:
    """A fact that a component is supplied with; None where nobody offers it.

    Of the data as that component sees them.
    """
    return {**facts, **of_data("data", seen)}.get(source)


def sources_of(choice: Choice) -> set[str]:
    """Everything that a component and those within it are supplied with: what nobody gave."""
    given = choice.arguments if choice.readable else {}
    own = {source for name, source in choice.supplied.items() if given.get(name) is None}
    return own.union(*map(sources_of, choice.nested.values()))


def own_facts(choice: Choice, config: Config) -> tuple[Facts | None, tuple[Problem, ...]]:
    """What a component offers to the others; or why it cannot say."""
    return asked(choice.kind, "facts", lambda: dict(choice.component.facts(config)))


def of_data(prefix: str, data: DataSpec) -> dict[str, Any]:
    """What is known of data, as facts with this prefix."""
    return {f"{prefix}.{name}": getattr(data, name) for name in DataSpec.model_fields}


def asked(
    kind: str, what: str, question: Callable[[], _Answer]
) -> tuple[_Answer | None, tuple[Problem, ...]]:
    """What a component answers; where it raises, None and the problem."""
    try:
        return question(), ()
    except DiffkitError as error:
        return None, (Problem(f"{kind}: {error}"),)
    except Exception as error:  # noqa: BLE001 - it is its author's code
        text = f"{kind}: its {what} raised {cause_of(error)}; tell its authors"
        return None, (Problem(text, error),)
