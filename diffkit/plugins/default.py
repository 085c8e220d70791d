"""The two questions most asked of the default host."""

from __future__ import annotations

from diffkit.plugins.entries import ComponentEntry
from diffkit.plugins.host import default_host


def components(kind: str | None = None) -> tuple[ComponentEntry, ...]:
    """Every installed component, or those of one kind, by kind and id. Imports none of them."""
    return default_host().components(kind)


def resolve(kind: str, name: str) -> type:
    """The component class with this full id or unique short name. Raises ComponentError."""
    return default_host().resolve(kind, name)
