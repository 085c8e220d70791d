"""What `diffkit doctor` imports, each in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffkit.plugins.entries import CommandEntry, ComponentEntry, HooksEntry, Origin

_TORCH = "torch"


@dataclass(frozen=True)
class Case:
    """Something to import, and what will be said of it."""

    task: Mapping[str, Any]
    kind: str
    id: str
    origin: Origin
    target: str


def torch_case() -> Case:
    """The library without which nothing can be imported."""
    return Case({"task": "torch"}, "library", _TORCH, Origin(_TORCH, "", _TORCH), _TORCH)


def component_case(entry: ComponentEntry) -> Case:
    """A component."""
    task = {"task": "component", "kind": entry.kind, **_fields(entry)}
    return Case(task, entry.kind, entry.id, entry.origin, str(entry.target))


def hooks_case(entry: HooksEntry) -> Case:
    """A module with hooks."""
    return Case(
        {"task": "hooks", **_fields(entry)}, "hooks", hooks_id(entry), entry.origin, entry.target
    )


def command_case(entry: CommandEntry) -> Case:
    """A verb of the command line."""
    full_id = f"{entry.origin.namespace}.{entry.name}"
    task = {"task": "command", **_fields(entry)}
    return Case(task, "command", full_id, entry.origin, entry.target)


def file_case(file: Path) -> Case:
    """A plugin file."""
    task = {"task": "file", "file": str(file.absolute())}
    return Case(task, "file", file.name, Origin(file.name, "", "local"), str(file))


def hooks_id(entry: HooksEntry) -> str:
    """What a module with hooks is called."""
    return f"{entry.origin.namespace}.{entry.name}"


def _fields(entry: ComponentEntry | HooksEntry | CommandEntry) -> dict[str, str]:
    origin = entry.origin
    return {
        "name": entry.name,
        "target": str(entry.target),
        "distribution": origin.distribution,
        "version": origin.version,
        "namespace": origin.namespace,
    }
