"""The only place that imports a plugin's code, which survives all that it raises but Ctrl-C."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from diffkit.errors import ComponentError
from diffkit.plugins.entries import CommandEntry, ComponentEntry, HooksEntry, Origin
from diffkit.plugins.isolation import cause_of
from diffkit.plugins.kinds import KINDS, LOCAL
from diffkit.plugins.metadata import unreadable_left_out

if TYPE_CHECKING:
    import click


class UnfitError(ComponentError):
    """What was imported is no usable component; `advice` says what its author has to do."""

    def __init__(self, message: str, advice: str) -> None:
        self.advice = advice
        super().__init__(message)


def load_component(entry: ComponentEntry) -> type:
    """The class behind an entry, checked to be a usable component of its kind.

    Raises:
        ComponentError: naming the component, its distribution and version, and the cause.
    """
    target = entry.target
    found = _attribute(target, str(entry)) if isinstance(target, str) else target
    interface = _attribute(KINDS[entry.kind].interface, f"the interface of {entry.kind}")
    assert isinstance(interface, type)
    if not (isinstance(found, type) and issubclass(found, interface)):
        base = f"{interface.__module__}.{interface.__qualname__}"
        raise UnfitError(
            f"{entry}: {entry.target} is {_described(found)}, not a subclass of {base}",
            f"make it a subclass of {base}, or let the entry point name a class that is",
        )
    if inspect.isabstract(found):
        raise UnfitError(
            f"{entry}: {entry.target} is abstract; it does not define {_missing(found)}",
            f"define {_missing(found)} in {found.__qualname__}",
        )
    return found


def load_hooks(entry: HooksEntry) -> ModuleType:
    """The module behind a hooks entry. Raises ComponentError as `load_component` does."""
    return _module(entry.target, str(entry))


def load_command(entry: CommandEntry) -> click.Command:
    """The click command behind an entry. Raises ComponentError as `load_component` does."""
    import click

    found = _attribute(entry.target, str(entry))
    if not isinstance(found, click.Command):
        raise UnfitError(
            f"{entry}: {entry.target} is {_described(found)}, not a click command",
            f"let the entry point '{entry.name}' name a click command",
        )
    return found


def load_file(path: Path) -> tuple[Origin, tuple[ComponentEntry, ...]]:
    """The components of a Python file that the user named: its concrete component classes.

    Their names are the classes' in snake case. Raises ComponentError.
    """
    source = _source(path)
    digest = hashlib.sha256(source).hexdigest()
    origin = Origin(path.name, "", LOCAL, digest)
    module = _run_file(path, source, f"diffkit_local_{path.stem}_{digest[:8]}")
    bases = {name: _attribute(kind.interface, name) for name, kind in KINDS.items()}
    own = {  # By value: a second name for a class is not a second component.
        value: None
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    entries = [
        ComponentEntry(name, _snake(value.__name__), value, origin)
        for value in own
        if not value.__name__.startswith("_")
        for name, base in bases.items()
        if isinstance(base, type) and issubclass(value, base) and _is_meant(value, own, path, name)
    ]
    if not entries:
        raise ComponentError(f"the plugin file {path} defines no component class")
    return origin, tuple(entries)


def _is_meant(found: type, own: Iterable[type], path: Path, kind: str) -> bool:
    """Whether a class is a component, not the abstract base of one. Raises ComponentError."""
    if not inspect.isabstract(found):
        return True
    if any(other is not found and issubclass(other, found) for other in own):
        return False
    raise ComponentError(
        f"the plugin file {path}: the {kind} {found.__name__} is abstract; it does not define "
        f"{_missing(found)}: define what is missing (is a name misspelled?), or begin the name of "
        "a class that is no component with '_'"
    )


def _missing(found: type) -> str:
    return ", ".join(sorted(getattr(found, "__abstractmethods__", ())))


def _run_file(path: Path, source: bytes, name: str) -> ModuleType:
    """Run these very bytes, whose hash is known: no cached bytecode, no second reading."""
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        with _explained(f"the plugin file {path} fails:"):
            exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _source(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise ComponentError(f"the plugin file {path} cannot be read: it is no regular file")
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ComponentError(f"the plugin file {path} cannot be read: {reason}") from error


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """What a plugin's code raises becomes a ComponentError; Ctrl-C stays, and says where it came.

    Plugins may exit, skip as under pytest, or cancel: all of it concerns them alone.
    """
    try:
        with unreadable_left_out():
            yield
    except KeyboardInterrupt as error:
        error.add_note(f"{what} KeyboardInterrupt, or it came meanwhile")
        raise
    except BaseException as error:
        raise ComponentError(f"{what} {cause_of(error)}") from error


def _attribute(target: str, described: str) -> object:
    module_name, _, attributes = target.partition(":")
    found: object = _module(module_name, described)
    for attribute in attributes.split("."):
        with _explained(f"{described} cannot be imported: {target} raised"):
            # An object's own AttributeError is no reason for another exception.
            there = hasattr(found, attribute)
            found = getattr(found, attribute, None)
        if not there:
            raise ComponentError(f"{described}: there is no '{attributes}' in {module_name}")
    return found


def _module(name: str, described: str) -> ModuleType:
    with _explained(f"{described} cannot be imported: importing {name} raised"):
        return importlib.import_module(name)


def _described(found: object) -> str:
    return f"the class {found.__qualname__}" if isinstance(found, type) else type(found).__name__


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
