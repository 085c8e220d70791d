"""What a mutant is: a component with one of the mistakes that this field makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffkit.testing import Fixtures


@dataclass(frozen=True)
class Mutant:
    """A wrong component, and what is wrong with it, in words that a table can hold."""

    component: type
    mistake: str
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    fixtures: Fixtures = field(default_factory=Fixtures)

    @property
    def name(self) -> str:
        return self.component.__name__
