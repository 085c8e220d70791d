"""What diffusers raises for values that it does not expect."""

from __future__ import annotations

ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
