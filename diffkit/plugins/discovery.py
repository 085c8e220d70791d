"""Reading what installed distributions declare. Nothing is imported."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint

from diffkit.plugins.entries import (
    CommandEntry,
    ComponentEntry,
    HooksEntry,
    Origin,
    Problem,
    name_problem,
    namespace_of,
    normalized,
)
from diffkit.plugins.kinds import COMMANDS_GROUP, HOOKS_GROUP, KINDS, LOCAL, VERBS
from diffkit.plugins.metadata import (
    Unreadable,
    all_distributions,
    entry_points_text,
    has_metadata,
    pipe_in_place_of,
)

CORE = "diffkit"
_GROUP = re.compile(r"diffkit\.(?P<kind>[a-z_-]+)\.v(?P<version>[0-9]{1,9})")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", re.ASCII)
_VERSION = re.compile(r"[\w.+!-]{1,100}", re.ASCII)
_METADATA_FOLDER = re.compile(r"(?P<name>[^-]+)(-(?P<version>[^-]+).*)?\.(dist|egg)-info")
_MODULE = re.compile(r"[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Declared:
    """What one distribution declares."""

    origin: Origin
    components: tuple[ComponentEntry, ...]
    hooks: tuple[HooksEntry, ...]
    problems: tuple[Problem, ...]
    commands: tuple[CommandEntry, ...] = ()


def discover(path: Sequence[str] | None = None) -> Iterator[Declared]:
    """What each distribution on `path` (default: `sys.path`) declares; the first of a name wins.

    A folder that an interrupted installation left over does not count as one.
    """
    found = all_distributions(None if path is None else list(path))
    groups: dict[str, list[Distribution]] = {}
    folders: set[str] = set()
    for distribution in found:
        folder = os.path.realpath(str(getattr(distribution, "_path", id(distribution))))
        if folder not in folders:  # A path may be searched twice.
            folders.add(folder)
            name = normalized(_from_folder(distribution).distribution)
            groups.setdefault(name, []).append(distribution)
    seen: set[str] = set()
    for name, group in groups.items():
        chosen, left_over = _sifted(group)
        declared = None if chosen is None else _declared(chosen)
        names = {name}
        if declared is not None:
            names.add(normalized(declared.origin.distribution))
        if declared is not None and not names & seen:
            yield _with(declared, left_over)
        elif declared is None and chosen is None and name.startswith(f"{CORE}-"):
            yield Declared(_from_folder(group[0]), (), (), (_left_over(group[0]),))
        seen |= names


def _sifted(group: list[Distribution]) -> tuple[Distribution | None, list[Distribution]]:
    """The one that counts of several of a name, and those that are left over.

    The first on the path, as in imports; of several in one folder one that declares entry points.
    """
    whole = [d for d in group if has_metadata(d) and not _renamed(d)]
    rest = [d for d in group if d not in whole]
    if not whole:
        # One without METADATA that declares something is a problem to tell.
        declaring = [d for d in rest if not _renamed(d) and _says_something(d)]
        return (declaring[0] if declaring else None), rest[1:]
    beside = [d for d in whole if _folder_of(d) == _folder_of(whole[0])]
    chosen = next((d for d in beside if _says_something(d)), whole[0])
    if normalized(_from_folder(chosen).distribution) == CORE:
        # Whoever else is called so: the components that come with this code are meant.
        this = importlib.import_module(CORE).__version__
        chosen = next((d for d in whole if _from_folder(d).version == this), chosen)
    return chosen, [*rest, *(d for d in beside if d is not chosen)]


def _renamed(distribution: Distribution) -> bool:
    """Whether pip moved it aside, to delete it, and was interrupted."""
    return _from_folder(distribution).distribution.startswith("~")


def _says_something(distribution: Distribution) -> bool:
    try:
        return bool(entry_points_text(distribution))
    except Unreadable:
        return True


def _folder_of(distribution: Distribution) -> str:
    return str(getattr(getattr(distribution, "_path", None), "parent", ""))


def _with(declared: Declared, left_over: list[Distribution]) -> Declared:
    problems = (*declared.problems, *(_left_over(distribution) for distribution in left_over))
    return dataclasses.replace(declared, problems=problems)


def _left_over(distribution: Distribution) -> Problem:
    origin = _from_folder(distribution)
    folder = getattr(distribution, "_path", origin.distribution)
    return Problem(
        origin,
        f"{folder} is left over from an installation that was interrupted or replaced, and is not "
        "looked at",
        advice=f"delete that folder, or reinstall {origin.distribution}",
    )


def _declared(distribution: Distribution) -> Declared | None:
    try:
        text = entry_points_text(distribution)
    except Unreadable as error:
        return _broken(distribution, str(error))
    if text is None or "diffkit." not in text:
        return None
    try:
        entry_points = list(distribution.entry_points)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        return _broken(distribution, f"entry_points.txt cannot be parsed: {error}")
    ours = [e for e in entry_points if (e.group or "").startswith("diffkit.")]
    if not ours:
        cut = any(line.strip().startswith("[diffkit.") for line in text.splitlines())
        return _broken(distribution, "entry_points.txt cannot be parsed") if cut else None
    origin, problem = _origin(distribution)
    if problem is not None:
        return Declared(origin, (), (), (problem,))
    return _sorted_out(origin, ours)


def _origin(distribution: Distribution) -> tuple[Origin, Problem | None]:
    """The origin, and a problem where the metadata do not say what is needed."""
    folder = _from_folder(distribution)
    try:
        if (file := pipe_in_place_of(distribution)) is not None:
            return folder, Problem(folder, f"its {file} is no regular file; reinstall it")
        metadata = distribution.metadata
        name, version = ((metadata.get_all(key) or [""])[0] for key in ("Name", "Version"))
    except (OSError, UnicodeDecodeError, TypeError, AttributeError) as error:
        return folder, Problem(folder, f"its METADATA cannot be read ({error}); reinstall it")
    if not name or not version:
        missing = "name" if not name else "version"
        origin = _named(name or folder.distribution, version or folder.version)
        return origin, Problem(origin, f"its METADATA is broken: it has no {missing}; reinstall it")
    if not _DISTRIBUTION.fullmatch(name):
        message = f"its METADATA is broken: {name!r} is no distribution's name; reinstall it"
        return folder, Problem(folder, message)
    if not _VERSION.fullmatch(version):
        message = f"its METADATA is broken: {version!r} is no version; reinstall it"
        return _named(name, ""), Problem(_named(name, ""), message)
    origin = _named(name, version)
    if origin.namespace == LOCAL or (origin.namespace == CORE and normalized(name) != CORE):
        reserved = f"the namespace '{origin.namespace}' is reserved; rename the distribution"
        return origin, Problem(origin, reserved)
    return origin, None


def _broken(distribution: Distribution, message: str) -> Declared:
    origin, _ = _origin(distribution)
    return Declared(origin, (), (), (Problem(origin, f"{message}; reinstall it"),))


def _named(name: str, version: str) -> Origin:
    return Origin(name, version, namespace_of(name))


def _from_folder(distribution: Distribution) -> Origin:
    """What the name of the metadata folder says, where the metadata themselves do not."""
    folder = getattr(distribution, "_path", None)
    name = str(distribution.locate_file("")) if folder is None else str(folder.name)
    match = _METADATA_FOLDER.fullmatch(name)
    return _named(name, "") if match is None else _named(match["name"], match["version"] or "")


def _sorted_out(origin: Origin, entry_points: list[EntryPoint]) -> Declared:
    components: list[ComponentEntry] = []
    hooks: list[HooksEntry] = []
    problems: list[Problem] = []
    commands: list[CommandEntry] = []
    for entry in entry_points:
        sorted_out = _component(origin, entry)
        if isinstance(sorted_out, ComponentEntry):
            components.append(sorted_out)
        elif isinstance(sorted_out, HooksEntry):
            hooks.append(sorted_out)
        elif isinstance(sorted_out, CommandEntry):
            commands.append(sorted_out)
        else:
            problems.append(sorted_out)
    return Declared(origin, tuple(components), tuple(hooks), tuple(problems), tuple(commands))


def _component(
    origin: Origin, entry: EntryPoint
) -> ComponentEntry | HooksEntry | CommandEntry | Problem:
    where = f"{entry.name} = {entry.value} in the group {entry.group}"
    if entry.group == HOOKS_GROUP:
        if _MODULE.fullmatch(entry.value):
            return HooksEntry(entry.name, entry.value, origin)
        return Problem(origin, f"{where}: the target must be a module")
    if entry.group == COMMANDS_GROUP:
        return _command(origin, entry, where)
    match = _GROUP.fullmatch(entry.group)
    if match is None or match["kind"] not in KINDS:
        known = ", ".join(kind.group for kind in KINDS.values())
        return Problem(
            origin,
            f"{where}: no such kind; the groups are {known}, {HOOKS_GROUP}, {COMMANDS_GROUP}",
        )
    kind, version = KINDS[match["kind"]], int(match["version"])
    full_id = f"{origin.namespace}.{entry.name}"
    if version != kind.version:
        message = (
            f"{where}: interface version {version} of {kind.name} is not known here; this diffkit "
            f"has version {kind.version}: install a release of {origin.distribution} made for it, "
            "or another diffkit"
        )
        return Problem(origin, message, full_id, kind.name)
    wrong = name_problem(entry.name, entry.value)
    if wrong is not None:
        # A target that is fine leaves the name to be wrong.
        name_alone = name_problem(entry.name, object) is not None
        todo = "rename" if name_alone else "mend the target of"
        advice = (
            f"its authors have to {todo} the entry point '{entry.name}': {wrong}; "
            f"{_or_else(origin)}"
        )
        return Problem(origin, f"{where}: {wrong}", full_id, kind.name, advice)
    return ComponentEntry(kind.name, entry.name, entry.value, origin)


def _command(origin: Origin, entry: EntryPoint, where: str) -> CommandEntry | Problem:
    wrong = name_problem(entry.name, entry.value)
    if wrong is not None:
        return Problem(origin, f"{where}: {wrong.replace('module:class', 'module:command')}")
    if entry.name in VERBS:
        wrong = f"'{entry.name}' is a verb of diffkit's own, which is used instead"
        advice = f"its authors have to rename the command '{entry.name}'; {_or_else(origin)}"
        return Problem(origin, f"{where}: {wrong}", advice=advice)
    return CommandEntry(entry.name, entry.value, origin)


def _or_else(origin: Origin) -> str:
    return f"or install another release of {origin.distribution}, or --disable {origin.namespace}"
