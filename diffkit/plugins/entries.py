"""What discovery finds, as records."""

from __future__ import annotations

import re
from dataclasses import dataclass


def normalized(distribution: str) -> str:
    """A distribution's name in its one canonical spelling (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def namespace_of(distribution: str) -> str:
    """The first part of its components' ids: its name without `diffkit-`."""
    return normalized(distribution).removeprefix("diffkit-")


@dataclass(frozen=True)
class Origin:
    """Where a component comes from."""

    distribution: str
    version: str
    namespace: str
    sha256: str | None = None
    """Of the file, where the origin is a local file."""

    def __str__(self) -> str:
        if self.sha256 is not None:
            return f"the file {self.distribution}"
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class ComponentEntry:
    """A component that can be resolved. Its class has not been imported."""

    kind: str
    name: str
    target: str | type
    """`module:attribute`; or the class itself, where it was made at run time."""
    origin: Origin

    @property
    def id(self) -> str:
        """The full id, as saved files hold it."""
        return f"{self.origin.namespace}.{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} '{self.id}' of {self.origin}"


@dataclass(frozen=True)
class HooksEntry:
    """A module with hook implementations, not imported yet."""

    name: str
    target: str
    origin: Origin

    def __str__(self) -> str:
        return f"hooks '{self.name}' of {self.origin}"


@dataclass(frozen=True)
class Problem:
    """Something wrong with a plugin; everything else works."""

    origin: Origin
    message: str
    id: str | None = None
    """The component that is affected, where it is one."""
    kind: str | None = None

    def __str__(self) -> str:
        return f"{self.origin}: {self.message}"
