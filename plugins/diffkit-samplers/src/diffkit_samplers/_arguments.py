"""What the constructors refuse, as the schema of a spec does."""

from __future__ import annotations

import math

from diffkit.errors import ComponentError


def at_least(name: str, field: str, value: float, least: float, most: float = math.inf) -> float:
    """The argument, finite and in `[least, most]`. Raises ComponentError elsewhere."""
    if not (math.isfinite(value) and least <= value <= most):
        limit = f"at least {least:g}" if most == math.inf else f"in [{least:g}, {most:g}]"
        raise ComponentError(f"{name}: {field} = {value!r} is not allowed; it must be {limit}")
    return value


def positive(name: str, field: str, value: float) -> float:
    """The argument, finite and above 0. Raises ComponentError elsewhere."""
    if not (math.isfinite(value) and value > 0.0):
        raise ComponentError(f"{name}: {field} = {value!r} is not allowed; it must be above 0")
    return value
