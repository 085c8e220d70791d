"""The laws, by kind."""

from __future__ import annotations

import importlib

from diffkit.testing.check import Check
from diffkit.testing.component_under_test import ComponentUnderTest

EVERY = "every"
"""The group of checks that components of all kinds have to pass."""


def checks_of(group: str) -> tuple[Check, ...]:
    """The checks of a kind's own, or those of every kind."""
    module = importlib.import_module(f"diffkit.testing.checks.{group.replace('-', '_')}")
    checks: tuple[Check, ...] = module.CHECKS
    return checks


def checks_for(subject: ComponentUnderTest) -> tuple[Check, ...]:
    """Every check of the subject's kind, those of every kind first."""
    return (*checks_of(EVERY), *checks_of(subject.kind))
