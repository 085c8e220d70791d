"""What discovery finds, as records."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def normalized(distribution: str) -> str:
    """A distribution's name in its one canonical spelling (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def namespace_of(distribution: str) -> str:
    """The first part of its components' ids: its name without `diffkit-`."""
    return normalized(distribution).removeprefix("diffkit-")


def name_problem(name: str, target: str | type) -> str | None:
    """Why a component cannot be announced with this name and target; None where it can."""
    if not _NAME.fullmatch(name):
        return f"the name '{name}' must be made of a-z, 0-9, '-' and '_', and hold no dot"
    if not isinstance(target, type) and not _TARGET.fullmatch(target):
        return f"the target '{target}' must be 'module:class'"
    return None


@dataclass(frozen=True)
class Origin:
    """Where a component comes from."""

    distribution: str
    version: str
    """Empty where it is not known."""
    namespace: str
    sha256: str | None = None
    """Of the file, where the origin is a local file."""

    def __str__(self) -> str:
        if self.sha256 is not None:
            return f"the file {self.distribution}"
        return f"{self.distribution} {self.version}".rstrip()


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
class CommandEntry:
    """A verb of the command line, not imported yet."""

    name: str
    target: str
    origin: Origin

    def __str__(self) -> str:
        return f"the command '{self.name}' of {self.origin}"


@dataclass(frozen=True)
class Problem:
    """Something wrong with a plugin; everything else works."""

    origin: Origin
    message: str
    id: str | None = None
    """The component that is affected, where it is one."""
    kind: str | None = None
    advice: str = ""
    """What the author has to do, where that is known."""

    def __str__(self) -> str:
        return f"{self.origin}: {self.message}"
