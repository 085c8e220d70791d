"""The only place that imports a plugin's code."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

from diffkit.errors import ComponentError
from diffkit.plugins.entries import ComponentEntry, HooksEntry, Origin
from diffkit.plugins.kinds import KINDS, LOCAL


def load_component(entry: ComponentEntry) -> type:
    """The class behind an entry, checked to be a usable component of its kind.

    Raises:
        ComponentError: naming the component, its distribution and version, and the cause.
    """
    found = entry.target
    if isinstance(found, str):
        found = _attribute(found, str(entry))
    interface = _attribute(KINDS[entry.kind].interface, f"the interface of {entry.kind}")
    assert isinstance(interface, type)
    if not (isinstance(found, type) and issubclass(found, interface)):
        raise ComponentError(
            f"{entry}: {entry.target} is {_described(found)}, "
            f"not a subclass of {interface.__module__}.{interface.__qualname__}"
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ComponentError(f"{entry}: {entry.target} is abstract; it does not define {missing}")
    return found


def load_hooks(entry: HooksEntry) -> ModuleType:
    """The module behind a hooks entry. Raises ComponentError as `load_component` does."""
    return _module(entry.target, str(entry))


def load_file(path: Path) -> tuple[Origin, tuple[ComponentEntry, ...]]:
    """The components of a Python file that the user named: its concrete component classes.

    Their names are the classes' in snake case. Raises ComponentError.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ComponentError(f"the plugin file {path} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(source).hexdigest()
    origin = Origin(path.name, "", LOCAL, digest)
    module = _run_file(path, f"diffkit_local_{path.stem}_{digest[:8]}")
    bases = {name: _attribute(kind.interface, name) for name, kind in KINDS.items()}
    entries = [
        ComponentEntry(name, _snake(value.__name__), value, origin)
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
        for name, base in bases.items()
        if isinstance(base, type) and issubclass(value, base)
    ]
    if not entries:
        raise ComponentError(f"the plugin file {path} defines no component class")
    return origin, tuple(entries)


def _run_file(path: Path, name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ComponentError(f"the plugin file {path} is not a Python file (*.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        del sys.modules[name]
        raise ComponentError(f"the plugin file {path} fails: {_cause(error)}") from error
    return module


def _attribute(target: str, described: str) -> object:
    module_name, _, attributes = target.partition(":")
    found: object = _module(module_name, described)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise ComponentError(f"{described}: there is no '{attributes}' in {module_name}")
        found = getattr(found, attribute)
    return found


def _module(name: str, described: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        raise ComponentError(
            f"{described} cannot be imported: importing {name} raised {_cause(error)}"
        ) from error


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _described(found: object) -> str:
    return f"the class {found.__qualname__}" if isinstance(found, type) else type(found).__name__


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
