"""Making components from their choices."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from diffkit.assembly.blueprint import Choice, Problem
from diffkit.assembly.references import with_references
from diffkit.config.spec import ComponentSpec
from diffkit.core.component import Component
from diffkit.errors import ComponentError, DiffkitError
from diffkit.plugins.isolation import cause_of

Supply = Callable[[str], Any]
"""Gives what the pipeline supplies, by its source: a kind, or `data.shape`."""
_LARGE = ("encoder", "model", "autoencoder")


def component_of(
    choice: Choice, supply: Supply, code: Mapping[str, Any] | None = None
) -> Component:
    """The component, with everything that its configuration refers to made before it.

    `code` are the arguments that only code can give, and runs that are in memory.

    Raises:
        ComponentError: the component, or one within it, refuses its arguments.
    """
    if choice.instance is not None:
        return choice.instance
    if choice.in_code and not code:
        raise ComponentError(
            f"{choice.component.__name__} is made in code, since no file can hold its "
            f"{' and '.join(choice.in_code)}; give the instance: diffkit.build({{..., "
            f"'{choice.kind}': ...}}), and of a run diffkit.load(run, {choice.kind}=...)"
        )

    def made(place: str, _: ComponentSpec) -> Component:
        return component_of(choice.nested[place], supply)

    arguments = dict(code or {})
    for name, value in choice.arguments.items():
        if name in arguments:
            continue
        if value is None and name in choice.supplied:
            arguments[name] = _supplied(choice, name, supply)
        elif name in choice.runs:
            arguments[name] = choice.runs[name]
        else:
            arguments[name] = with_references(value, name, made)
    return choice.component(**arguments)


def _supplied(choice: Choice, name: str, supply: Supply) -> Any:
    """What the pipeline fills in. Raises ComponentError where it has nothing for what is needed."""
    source = choice.supplied[name]
    found = supply(source)
    default = inspect.signature(choice.component.__init__).parameters[name].default
    if found is None and default is inspect.Parameter.empty:
        kind, _, fact = source.partition(".")
        raise ComponentError(
            f"{choice.component.__name__} needs {name}, which it is supplied with from {source}, "
            f"and no {kind} says its {fact}; give {name} in its config, or a {kind} that does"
        )
    return found


def create_one(choice: Choice, supply: Supply) -> tuple[Component | None, tuple[Problem, ...]]:
    """The component, or why it cannot be made; nothing where its choice is wrong already."""
    if not choice.whole:
        return None, ()
    try:
        return component_of(choice, supply), ()
    except DiffkitError as error:
        # What is wrong with a nested part, or was objected to, is said already.
        return None, (Problem(f"{choice.kind}: {error}", follows=True),)
    except Exception as error:  # noqa: BLE001 - it is its author's code, or torch's
        # What torch says of sizes that no memory holds, or no integer; its first line says it.
        said = cause_of(error) if not str(error) else str(error).splitlines()[0]
        large = choice.kind in _LARGE
        hint = " (if that is about a size, give it smaller sizes)" if large else ""
        text = (
            f"{choice.kind}: {choice.component.__name__} cannot be created with this "
            f"configuration: {said}{hint}"
        )
        return None, (Problem(text, error),)
