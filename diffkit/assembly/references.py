"""Component references among the values of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from diffkit.config.spec import ComponentSpec


def references(config: BaseModel) -> list[tuple[str, ComponentSpec]]:
    """Every component reference in a configuration, with its path: `weighting`, `all[0]`."""
    found: list[tuple[str, ComponentSpec]] = []

    def note(place: str, reference: ComponentSpec) -> ComponentSpec:
        found.append((place, reference))
        return reference

    for name in type(config).model_fields:
        with_references(getattr(config, name), name, note)
    return found


def with_references(value: Any, place: str, change: Callable[[str, ComponentSpec], Any]) -> Any:
    """A value with every component reference in it changed; `place` is the path of the value."""
    if isinstance(value, ComponentSpec):
        return change(place, value)
    if isinstance(value, list | tuple):
        items = (with_references(v, f"{place}[{i}]", change) for i, v in enumerate(value))
        return type(value)(items)
    if isinstance(value, dict):
        return {k: with_references(v, f"{place}.{k}", change) for k, v in value.items()}
    return value
