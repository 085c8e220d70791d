"""The conformance kit: every check that applies to a component, as tests or as a report."""

from __future__ import annotations

import difflib
import fnmatch
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from diffkit.core.component import Component
from diffkit.core.example import Example
from diffkit.errors import ComponentError
from diffkit.plugins.entries import ComponentEntry, Origin
from diffkit.plugins.host import Host, default_host
from diffkit.plugins.kinds import KINDS
from diffkit.testing.check import Check
from diffkit.testing.checks import checks_for
from diffkit.testing.component_under_test import ComponentUnderTest, Fixtures
from diffkit.testing.laws import LawBroken, NotApplicable

if TYPE_CHECKING:
    import pytest

Configurations = Mapping[str, Sequence[Mapping[str, Any]]]
"""By full id: the configurations to check it with."""
ExpectedFailures = Mapping[str, Mapping[str, str]]
"""By full id and name of a check: why it fails."""
_Value = TypeVar("_Value")
FixturesById = Mapping[str, Fixtures]
"""By full id: what the component is tried with."""


@dataclass(frozen=True)
class Outcome:
    """What one check said of one component."""

    subject: ComponentUnderTest
    check: Check
    status: Literal["passed", "failed", "skipped"]
    message: str
    seconds: float
    cause: BaseException | None = None
    """The component's exception, where that is what failed."""


def parametrize_with_checks(
    components: str | type[Component] | Sequence[str | type[Component]],
    *,
    configurations: Configurations | None = None,
    expected_failures: ExpectedFailures | None = None,
    fixtures: FixturesById | None = None,
    host: Host | None = None,
    seed: int = 0,
) -> pytest.MarkDecorator:
    """Turn a test of `(component, check)` into one test for every check of every component.

        @parametrize_with_checks("acme.*")
        def test_contract(component, check):
            check(component)

    Args:
        components: full ids, patterns of them as `acme.*`, or component classes.
        configurations: by full id, the configurations to check; default those of the
            component's `examples`, else the one that `__init__` has by default. Where components
            of two kinds have the id, `weighting:acme.edm` is one of them.
        expected_failures: by full id and check, why it fails. They are strict: a check that
            passes nevertheless fails the test.
        fixtures: by full id, other shapes or conditions to try it with.
        host: where components are found; default what is installed.
        seed: of everything random in the checks.

    Raises:
        ComponentError: a name matches nothing, or an argument names something that is not
            checked.
    """
    import pytest

    expected = expected_failures or {}
    found = components_under_test(
        components, configurations=configurations, fixtures=fixtures, host=host
    )
    pairs = [(subject, check) for subject in _seeded(found, seed) for check in checks_for(subject)]
    _refuse_unknown(expected, pairs)
    parameters = []
    for subject, check in pairs:
        reason = expected.get(subject.entry.id, {}).get(check.name)
        strictly = pytest.mark.xfail(strict=True, raises=LawBroken, reason=reason or "")
        marks = [strictly] if reason is not None else []
        name = f"{subject.kind}-{subject}-{check.name}"
        parameters.append(pytest.param(subject, check, id=name, marks=marks))
    return pytest.mark.parametrize(("component", "check"), parameters)


def components_under_test(
    components: str | type[Component] | Sequence[str | type[Component]],
    *,
    configurations: Configurations | None = None,
    fixtures: FixturesById | None = None,
    host: Host | None = None,
) -> list[ComponentUnderTest]:
    """The subjects that these ids, patterns or classes name; a class need not be registered.

    Raises:
        ComponentError: a name matches nothing, or an argument names what is not among them.
    """
    entries = named_entries(components, host)
    return components_of(entries, configurations=configurations, fixtures=fixtures)


def named_entries(
    components: str | type[Component] | Sequence[str | type[Component]], host: Host | None = None
) -> dict[ComponentEntry, Host]:
    """What these ids, patterns or classes name, each with its host; nothing is imported.

    Raises ComponentError: a name matches nothing.
    """
    host = default_host() if host is None else host
    named = [components] if isinstance(components, str | type) else list(components)
    entries: dict[ComponentEntry, Host] = {}
    for name in named:
        entries.update(_of_class(name) if isinstance(name, type) else _matching(name, host))
    return entries


def components_of(
    entries: Mapping[ComponentEntry, Host],
    *,
    configurations: Configurations | None = None,
    fixtures: FixturesById | None = None,
) -> list[ComponentUnderTest]:
    """The subjects of these entries. Components are imported, as they say how they are tried.

    Raises ComponentError: an argument names what is not among them.
    """
    _refuse_absent(entries, configurations or {}, fixtures or {})
    found = []
    for entry, finder in entries.items():
        own = _of_entry(fixtures or {}, entry)
        configs = _of_entry(configurations or {}, entry)
        examples = [] if configs is not None else _examples(entry, finder)
        if examples:
            tried = [(e.config, own or Fixtures.of(e)) for e in examples]
        else:
            tried = [(config, own or Fixtures()) for config in configs or [{}]]
        found += [ComponentUnderTest(entry, finder, *one) for one in tried]
    return found


def _examples(entry: ComponentEntry, host: Host) -> Sequence[Example]:
    """How a component says that it is tried; nothing where it cannot be imported, which a check
    says.
    """
    try:
        component: type[Component] = host.load(entry)
        return component.examples()
    except ComponentError:
        return ()


def _of_entry(given: Mapping[str, _Value], entry: ComponentEntry) -> _Value | None:
    """What is given for a component, by its full id, or its kind and that: `weighting:acme.edm`."""
    return given.get(f"{entry.kind}:{entry.id}", given.get(entry.id))


def _refuse_absent(entries: Iterable[ComponentEntry], *given: Mapping[str, Any]) -> None:
    names = {name for entry in entries for name in (entry.id, f"{entry.kind}:{entry.id}")}
    known = ", ".join(sorted({entry.id for entry in entries}))
    for full_id in (name for mapping in given for name in mapping):
        if full_id not in names:
            raise ComponentError(f"{full_id!r} is not among the components checked: {known}")


def run_checks(found: Iterable[ComponentUnderTest], *, seed: int = 0) -> Iterator[Outcome]:
    """Every check of every subject, one outcome each, as they come."""
    for subject in _seeded(found, seed):
        for check in checks_for(subject):
            yield _outcome(subject, check)


def _outcome(subject: ComponentUnderTest, check: Check) -> Outcome:
    start = time.perf_counter()
    status: Literal["passed", "failed", "skipped"] = "passed"
    message, cause = "", None
    try:
        check(subject)
    except NotApplicable as reason:
        status, message = "skipped", str(reason)
    except LawBroken as broken:
        status, message, cause = "failed", str(broken), broken.__cause__
    return Outcome(subject, check, status, message, time.perf_counter() - start, cause)


def _seeded(found: Iterable[ComponentUnderTest], seed: int) -> Iterator[ComponentUnderTest]:
    for subject in found:
        yield ComponentUnderTest(
            subject.entry, subject.host, subject.config, subject.fixtures, seed
        )


def _matching(pattern: str, host: Host) -> dict[ComponentEntry, Host]:
    """By full id or pattern; or by a short name that only one id has."""
    entries = host.components()
    found = [e for e in entries if fnmatch.fnmatchcase(e.id, pattern)]
    found = found or [e for e in entries if e.name == pattern]
    ids = sorted({entry.id for entry in found})
    if not found:
        raise ComponentError(_why_none(pattern, host))
    if pattern in {entry.name for entry in found} and len(ids) > 1:
        raise ComponentError(f"{pattern!r} is ambiguous; write one of {', '.join(ids)}")
    return dict.fromkeys(found, host)


def _why_none(pattern: str, host: Host) -> str:
    """Why nothing can be checked under this name, as far as the host knows it."""
    for kind in KINDS:
        if host.knows(kind, pattern):
            try:
                host.find(kind, pattern)
            except ComponentError as error:
                return str(error)
    namespace = pattern.partition(".")[0]
    problems = [p for p in host.problems if p.id is not None and fnmatch.fnmatchcase(p.id, pattern)]
    problems = problems or [p for p in host.problems if p.origin.namespace == namespace]
    if problems:
        return f"{pattern!r} cannot be checked: {'; '.join(str(problem) for problem in problems)}"
    names = sorted({name for entry in host.components() for name in (entry.id, entry.name)})
    near = difflib.get_close_matches(pattern, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"no component is called {pattern!r}; {hint}`diffkit list` shows what is installed"


def _of_class(component: type[Component]) -> dict[ComponentEntry, Host]:
    """An entry of its own, in a host of its own, so that specs can name it."""
    host = Host()
    entry = ComponentEntry(
        component.kind, component.__name__.lower(), component, Origin("classes", "0", "classes")
    )
    host.add(entry)
    return {entry: host}


def _refuse_unknown(
    expected: ExpectedFailures, pairs: Sequence[tuple[ComponentUnderTest, Check]]
) -> None:
    checked = {(subject.entry.id, check.name) for subject, check in pairs}
    for full_id, failures in expected.items():
        for name in failures:
            if (full_id, name) not in checked:
                known = ", ".join(sorted(c for i, c in checked if i == full_id)) or "none"
                raise ComponentError(
                    f"expected_failures: {full_id} has no check {name!r}; it has: {known}"
                )
