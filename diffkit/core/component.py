"""What every component is: a class whose keyword-only `__init__` is its configuration."""

from __future__ import annotations

import copy
import inspect
from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast, get_args, get_type_hints

if TYPE_CHECKING:
    from diffkit.core.example import Example

_ARGUMENTS = "_diffkit_arguments"


class Config(Protocol):
    """A component's validated configuration, read by attribute: `config.steps`."""

    def __getattr__(self, name: str) -> Any: ...


Facts = Mapping[str, Any]
"""What is known of a pipeline before anything is allocated, as `"kind.fact"` -> value."""


class ComponentMeta(ABCMeta):
    """Records the bound arguments of every creation, so that an instance saves like a spec."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        kwargs = _with_runs(cls, kwargs)
        # Copied before `__init__` runs, which may change what it is given.
        given = {name: _own(value) for name, value in kwargs.items()}
        component = super().__call__(*args, **kwargs)
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        bound = signature.bind(component, *args, **given)
        bound.apply_defaults()
        recorded = {
            name: _own(bound.arguments[name])
            for name, parameter in signature.parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        object.__setattr__(component, _ARGUMENTS, recorded)
        return component


def _with_runs(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments in which the directory of a trained run is that run, as a spec has it."""
    named = {name: value for name, value in given.items() if isinstance(value, str | Path)}
    if not named:
        return dict(given)
    try:
        hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    except (NameError, TypeError):
        return dict(given)  # Annotations that cannot be read are refused where a spec is.
    found = {name: _named_by_directory(hints.get(name)) for name in named}
    return {**given, **{name: made(named[name]) for name, made in found.items() if made}}


def _named_by_directory(annotation: Any) -> Callable[[str | Path], Any] | None:
    """The class in an annotation that a directory stands for in files, if one is: `Run`."""
    classes = (annotation, *get_args(annotation))
    return next((c for c in classes if getattr(c, "named_by_directory", False)), None)


class Component(metaclass=ComponentMeta):
    """The base of all kinds. A class is one component: one kind, one id, one `__init__`.

    `__init__` takes annotated keyword-only arguments; they are the configuration, and nothing
    else changes after creation except parameters and declared state.
    """

    kind: ClassVar[str]
    exempt: ClassVar[Mapping[str, str]] = {}
    """By the name of a law of the conformance kit that cannot hold for it: why, which is shown."""

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """What a component so configured offers to the others, without being created."""
        return {}

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """The problems of a component so configured in a pipeline with these facts.

        Each problem is a sentence that says what cannot work, why, and what to change.
        """
        return ()

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """How the kit and `diffkit check` try it. None: in its default configuration."""
        return ()


@dataclass(frozen=True)
class Described:
    """A component within another, as `facts(config)` and `requires` see it in the configuration."""

    component: type[Component]
    config: Config


def facts_of(nested: object) -> Mapping[str, Any]:
    """The facts of a component within another: of its instance, or of what describes it.

    For `facts(config)` and `requires`: `facts_of(config.encoder)`. Empty where nothing is known of
    it, as where its own configuration is wrong, which is said elsewhere.
    """
    if isinstance(nested, Component):
        held = cast(Config, SimpleNamespace(**arguments_of(nested)))
        return dict(type(nested).facts(held))
    if isinstance(nested, Described):
        return dict(nested.component.facts(nested.config))
    return {}


def requires_of(nested: object, facts: Facts) -> Iterable[str]:
    """The problems of a component within another in a pipeline with these facts, likewise."""
    if isinstance(nested, Component):
        held = cast(Config, SimpleNamespace(**arguments_of(nested)))
        return type(nested).requires(held, facts)
    if isinstance(nested, Described):
        return nested.component.requires(nested.config, facts)
    return ()


def arguments_of(component: Component) -> dict[str, Any]:
    """The arguments that `component` was created with, defaults included."""
    return dict(cast(Mapping[str, Any], getattr(component, _ARGUMENTS)))


def alike(one: Any, other: Any) -> bool:
    """Whether two components are of one class and made of the same arguments; or values equal."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, Component):
        return alike(arguments_of(one), arguments_of(other))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    try:
        return bool(one == other)
    except (ValueError, RuntimeError):
        # Arrays are equal element by element, and more than one of these is no answer.
        return False


def _own(value: Any) -> Any:
    """A copy of plain containers, so that later changes to them do not rewrite the record."""
    return copy.copy(value) if isinstance(value, list | dict | set) else value
