"""The plugin host: every component that is installed, found by name."""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from diffkit.arguments import instance, several, shown
from diffkit.arguments import path as file_path
from diffkit.errors import ComponentError
from diffkit.plugins.discovery import Declared, discover
from diffkit.plugins.distribution import DistributionPlugin
from diffkit.plugins.entries import (
    CommandEntry,
    ComponentEntry,
    HooksEntry,
    Origin,
    Problem,
    name_problem,
    normalized,
)
from diffkit.plugins.hookspecs import Register
from diffkit.plugins.isolation import call_each, cause_of, new_manager, register
from diffkit.plugins.kinds import KINDS
from diffkit.plugins.loading import load_component, load_file, load_hooks

_log = logging.getLogger("diffkit")

DISABLE_VARIABLE = "DIFFKIT_DISABLE"
"""Names of distributions, or their namespaces, separated by commas."""


class Host:
    """Finds components by name. Making one reads metadata and imports no plugin.

    Args:
        path: where to look for distributions; default `sys.path`.
        disabled: distributions (or their namespaces) to leave out, beside those that the
            environment variable DIFFKIT_DISABLE names.
        plugin_files: Python files whose components are to be had as `local.*`. These are run.
    """

    def __init__(
        self,
        *,
        path: Sequence[str] | None = None,
        disabled: Iterable[str] = (),
        plugin_files: Iterable[str | Path] = (),
    ) -> None:
        if path is not None:
            path = [os.fspath(file_path(p, "path")) for p in several(path, "path", "folders,")]
        disabled = several(disabled, "disabled", "names,")
        for given in disabled:
            instance(given, "disabled", str, "names of distributions")
        named = several(plugin_files, "plugin_files", "paths,")
        files = [file_path(file, "plugin_files") for file in named]
        self._manager = new_manager()
        self._problems: list[Problem] = []
        self._entries: dict[tuple[str, str], list[ComponentEntry]] = defaultdict(list)
        self._blocked: dict[tuple[str, str], ComponentEntry] = {}
        self._classes: dict[ComponentEntry, type] = {}
        self._origins: dict[str, Origin] = {}
        self._hooks: list[HooksEntry] = []
        self._commands: dict[str, CommandEntry] = {}
        self._hooks_loaded = False
        self._modules: tuple[tuple[str, object], ...] = ()
        wanted = [*disabled, *os.environ.get(DISABLE_VARIABLE, "").split(",")]
        off = {normalized(name.strip()) for name in wanted if name.strip()}
        used: set[str] = set()
        for declared in sorted(discover(path), key=lambda d: normalized(d.origin.distribution)):
            used |= self._admit(declared, off)
        self._announce()
        for name in sorted(off - used):
            self._problems.append(
                Problem(Origin(name, "", name), "it is to be disabled, but it is not installed")
            )
        for file in files:
            _, entries = load_file(file)
            for entry in entries:
                self.add(entry)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything found wrong so far; none of it keeps the rest from working."""
        clashes = (
            Problem(found[0].origin, _clash(found), full_id, kind)
            for (kind, full_id), found in self._entries.items()
            if len(found) > 1
        )
        return (*self._problems, *clashes)

    @property
    def hooks(self) -> tuple[HooksEntry, ...]:
        """The modules with hook implementations that are installed and not disabled."""
        return tuple(self._hooks)

    @property
    def commands(self) -> dict[str, CommandEntry]:
        """The verbs that plugins add to the command line, by name."""
        return dict(self._commands)

    def components(self, kind: str | None = None) -> tuple[ComponentEntry, ...]:
        """Every component that can be resolved, by kind and id. Imports nothing."""
        if kind is not None:
            _check_kind(kind)
        order = {name: position for position, name in enumerate(KINDS)}
        single = (found[0] for found in self._entries.values() if len(found) == 1)
        chosen = (entry for entry in single if kind in (None, entry.kind))
        return tuple(sorted(chosen, key=lambda e: (order[e.kind], e.id)))

    def knows(self, kind: str, full_id: str) -> bool:
        """Whether something installed declares this id, though it may be disabled or broken."""
        return bool(self._entries.get((kind, full_id))) or (kind, full_id) in self._blocked

    def find(self, kind: str, name: str) -> ComponentEntry:
        """The entry for a full id, or for a short name that only one component of the kind has.

        Raises:
            ComponentError: the name is unknown, ambiguous, clashing, disabled or broken.
        """
        _check_kind(kind)
        instance(name, "name", str, "the name of a component")
        exact = self._entries.get((kind, name), [])
        candidates = exact or [e for e in self.components(kind) if e.name == name]
        if len(candidates) == 1:
            return candidates[0]
        if exact:
            raise ComponentError(_clash(exact))
        if candidates:
            ids = " or ".join(f"{entry.id} (of {entry.origin})" for entry in candidates)
            raise ComponentError(f"{kind} '{name}' is ambiguous; write the full id: {ids}")
        raise ComponentError(self._why_unknown(kind, name))

    def resolve(self, kind: str, name: str) -> type:
        """The component class, imported now if it has not been. Raises ComponentError."""
        return self.load(self.find(kind, name))

    def load(self, entry: ComponentEntry) -> type:
        """The class behind an entry. Raises ComponentError."""
        if entry not in self._classes:
            self._classes[entry] = load_component(entry)
        return self._classes[entry]

    def entry_of(self, component_class: type) -> ComponentEntry | None:
        """The entry under which a class is registered, if it is."""
        kind = getattr(component_class, "kind", None)
        if not isinstance(kind, str) or kind not in KINDS:
            return None
        for entry in self.components(kind):
            if self._leads_to(entry, component_class):
                return entry
        return None

    def _leads_to(self, entry: ComponentEntry, component_class: type) -> bool:
        if isinstance(entry.target, type):
            return entry.target is component_class
        if entry in self._classes:
            return self._classes[entry] is component_class
        # Only an entry of this name can be it; do not import the rest to find out.
        module, _, attribute = entry.target.partition(":")
        if attribute.rpartition(".")[2] != component_class.__name__:
            return False
        package = component_class.__module__.partition(".")[0]
        if module.partition(".")[0] != package and module not in sys.modules:
            return False
        try:
            return self.load(entry) is component_class
        except ComponentError:
            return False

    def load_hooks(self) -> tuple[tuple[str, object], ...]:
        """Import the hook modules (once) and let them announce components made at run time.

        Returns the modules with their names. A module that fails is among the problems.
        """
        if not self._hooks_loaded:
            self._hooks_loaded = True
            names = [self._load_hooks_module(entry) for entry in self._hooks]
            made = [(name, self._manager.get_plugin(name)) for name in names if name is not None]
            self._announce()
            self._modules = tuple((n, p) for n, p in made if self._manager.has_plugin(n))
        return self._modules

    def _load_hooks_module(self, entry: HooksEntry) -> str | None:
        name = f"{normalized(entry.origin.distribution)}:{entry.name}"
        try:
            module = load_hooks(entry)
        except ComponentError as error:
            self._leave_out(entry, str(error))
            return None
        problem = register(self._manager, module, name)
        if problem is not None:
            self._leave_out(entry, f"{entry}, the module {entry.target}: {problem}")
            return None
        self._origins[name] = entry.origin
        return name

    def _leave_out(self, entry: HooksEntry, message: str) -> None:
        _log.warning("%s; its hooks are not called: see `diffkit doctor`", message)
        self._problems.append(Problem(entry.origin, message))

    def _admit(self, declared: Declared, off: set[str]) -> set[str]:
        """Take in what a distribution declares; or block it, and say which names in `off` did."""
        origin = declared.origin
        name = normalized(origin.distribution)
        matched = off & {name, origin.namespace}
        if matched:
            self._manager.set_blocked(name)
            self._blocked.update({(e.kind, e.id): e for e in declared.components})
            return matched
        self._problems.extend(declared.problems)
        self._hooks.extend(declared.hooks)
        for command in declared.commands:
            first = self._commands.setdefault(command.name, command)
            if first is not command:
                message = f"{command} is not used: there is {first} already; uninstall one"
                self._problems.append(Problem(origin, message))
        self._origins[name] = origin
        self._manager.register(DistributionPlugin(declared), name=name)
        return set()

    def add(self, entry: ComponentEntry) -> None:
        """Make a component known that no metadata declares."""
        found = self._entries[entry.kind, entry.id]
        if entry not in found:
            found.append(entry)

    def _announce(self) -> None:
        """Let every plugin announce its components; what is known already stays as it is."""

        def arguments(plugin: str) -> dict[str, Register]:
            def announce(kind: str, name: str, target: str | type) -> None:
                _check_kind(kind)
                wrong = name_problem(name, target)
                if wrong is not None:
                    raise ComponentError(wrong)
                self.add(ComponentEntry(kind, name, target, self._origins[plugin]))

            return {"register": announce}

        def report(plugin: str, error: BaseException) -> None:
            message = f"diffkit_register raised {cause_of(error)}"
            self._problems.append(Problem(self._origins[plugin], message))

        call_each(self._manager, "diffkit_register", arguments, report)

    def _why_unknown(self, kind: str, name: str) -> str:
        for (blocked_kind, full_id), entry in self._blocked.items():
            if blocked_kind == kind and name in (full_id, entry.name):
                return (
                    f"{entry} is disabled; take '{entry.origin.namespace}' out of the disabled "
                    f"plugins ({DISABLE_VARIABLE}, --disable)"
                )
        for problem in self.problems:
            if problem.kind == kind and problem.id in (name, f"{problem.origin.namespace}.{name}"):
                return f"{kind} '{name}' cannot be used: {problem}"
        known = [entry.id for entry in self.components(kind)]
        names = sorted({*known, *(entry.name for entry in self.components(kind))})
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        installed = ", ".join(known) or "none"
        namespace = name.rpartition(".")[0]
        notes = [
            f"; {p}" for p in self.problems if p.id is None and p.origin.namespace == namespace
        ]
        return f"no {kind} is called {shown(name)}; {hint}installed: {installed}{''.join(notes)}"


def _clash(found: Sequence[ComponentEntry]) -> str:
    what = f"{found[0].kind} '{found[0].id}' is declared"
    owners = sorted({str(entry.origin) for entry in found})
    if len(owners) == 1:
        targets = " and ".join(sorted(str(entry.target) for entry in found))
        return f"{what} twice by {owners[0]}, as {targets}; rename one"
    return f"{what} by {' and '.join(owners)}; uninstall all but one"


def _check_kind(kind: str) -> None:
    instance(kind, "kind", str, "the name of a kind of component")
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ComponentError(f"there is no kind '{kind}'; {hint}the kinds are {', '.join(KINDS)}")


@cache
def default_host() -> Host:
    """The host of this process: what is installed, less what DIFFKIT_DISABLE names."""
    return Host()
