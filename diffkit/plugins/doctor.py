"""The state of every installed plugin, each imported in a process of its own."""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from diffkit.plugins.cases import (
    Case,
    command_case,
    component_case,
    file_case,
    hooks_case,
    hooks_id,
    torch_case,
)
from diffkit.plugins.discovery import CORE, Declared, discover
from diffkit.plugins.entries import ComponentEntry, HooksEntry, Origin, Problem, normalized
from diffkit.plugins.fork_server import ForkServer
from diffkit.plugins.host import DISABLE_VARIABLE, Host
from diffkit.plugins.kinds import KINDS
from diffkit.plugins.probe import Examined, Outcome, environment, examine_alone

Status = Outcome | Literal["clash", "disabled"]
HEALTHY: tuple[Status, ...] = ("ok", "disabled")

_WORKERS = 4
_TORCH_SECONDS = 120.0
_FORKS = sys.platform == "linux"


@dataclass(frozen=True)
class Finding:
    """What is known of a component, a hooks module, a command, a plugin file, or a declaration."""

    kind: str
    """A kind of component, `hooks`, `command`, `file`; `metadata`: what discovery cannot take."""
    id: str
    distribution: str
    version: str
    target: str
    status: Status
    message: str = ""
    """What is wrong."""
    advice: str = ""
    """What to do about it."""
    output: str = ""
    """The end of what the import wrote, where it failed."""

    @property
    def healthy(self) -> bool:
        """Whether nothing has to be done."""
        return self.status in HEALTHY


@dataclass(frozen=True)
class Diagnosis:
    """The environment and every finding, the unhealthy ones included."""

    environment: Mapping[str, Any]
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing has to be done."""
        return all(finding.healthy for finding in self.findings)


def diagnose(
    *,
    path: Sequence[str] | None = None,
    disabled: tuple[str, ...] = (),
    plugin_files: Iterable[Path] = (),
    timeout: float = 60.0,
) -> Diagnosis:
    """Examine everything that is installed on `path` (default: `sys.path`).

    No plugin is imported here: each component, hooks module, command and plugin file has a
    process of its own, a few at a time, for `timeout` seconds at most.
    """
    host = Host(path=path, disabled=disabled)
    cases = [torch_case()]
    cases += [component_case(entry) for entry in host.components()]
    cases += [hooks_case(entry) for entry in host.hooks]
    cases += [command_case(entry) for entry in host.commands.values()]
    cases += [file_case(Path(file)) for file in plugin_files]
    torch, *examined = _examined(cases, timeout, disabled)
    findings = [_finding(case, found) for case, found in zip(cases[1:], examined, strict=True)]
    findings += _not_examined(host, tuple(discover(path)))
    findings += _late_clashes(host, cases[1:], examined)
    if torch.status != "ok":
        findings.append(_finding(cases[0], torch))
    return Diagnosis(_environment(torch, disabled), tuple(sorted(findings, key=_order)))


def _examined(
    cases: Sequence[Case], timeout: float, disabled: tuple[str, ...]
) -> tuple[Examined, ...]:
    """Each case in its own process. An interrupt kills those that run."""
    stop = threading.Event()
    with _fork_servers(disabled) as free:

        def examine(case: Case) -> Examined:
            # Torch is no plugin: its version is wanted however little time plugins are given.
            allowed = max(timeout, _TORCH_SECONDS) if case.kind == "library" else timeout
            server = free.get()
            try:
                return examine_alone(
                    case.task, timeout=allowed, disabled=disabled, stop=stop, server=server
                )
            finally:
                free.put(server)

        with ThreadPoolExecutor(free.qsize(), thread_name_prefix="diffkit-doctor") as pool:
            try:
                return tuple(pool.map(examine, cases))
            except BaseException:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise


@contextmanager
def _fork_servers(disabled: tuple[str, ...]) -> Iterator[SimpleQueue[ForkServer | None]]:
    """As many as work at a time; None in the place of one that cannot be had."""
    free: SimpleQueue[ForkServer | None] = SimpleQueue()
    count = min(_WORKERS, os.cpu_count() or 1)
    servers = [ForkServer(environment(disabled)) for _ in range(count)] if _FORKS else []
    try:
        for server in servers:
            free.put(server if server.ready() else None)
        for _ in range(count - len(servers)):
            free.put(None)
        yield free
    finally:
        for server in servers:
            server.close()


def _finding(case: Case, examined: Examined) -> Finding:
    healthy = examined.status == "ok"
    return Finding(
        case.kind,
        case.id,
        case.origin.distribution,
        case.origin.version,
        case.target,
        examined.status,
        examined.message,
        "" if healthy else examined.report.get("advice") or _advice(case, examined.status),
        "" if healthy else examined.output,
    )


def _advice(case: Case, status: Outcome) -> str:
    name = case.origin.distribution
    left_out = f"leave it out with --disable {case.origin.namespace}"
    if case.kind == "file":
        return f"mend {case.target}, or do not name it"
    if case.kind == "library":
        return "reinstall torch for this version of python; nothing can be imported without it"
    if status == "hung":
        return (
            f"importing must not wait for a network, a lock or input: ask the authors of {name}; "
            f"allow more with --timeout, or {left_out}"
        )
    if status == "crashed":
        return (
            f"compiled code may be made for other versions of python or torch: reinstall {name} "
            f"and what it needs, or {left_out}"
        )
    if case.origin.namespace == CORE:
        return "reinstall diffkit"
    return f"install what it misses, or another release of {name}; or {left_out}"


def _not_examined(host: Host, found: Sequence[Declared]) -> list[Finding]:
    """What is declared, but clashes or is disabled; and what discovery cannot take."""
    usable, problems = set(host.components()), {(p.kind, p.id): p for p in host.problems}
    findings: list[Finding] = []
    clashing: set[Problem] = set()
    for declared in found:
        for entry in declared.components:
            problem = problems.get((entry.kind, entry.id))
            if problem is not None:
                clashing.add(problem)
                findings.append(_clash(entry, problem))
            elif entry not in usable:
                findings.append(_disabled(entry.kind, entry.id, entry))
        for hooks in declared.hooks:
            if hooks not in host.hooks:
                findings.append(_disabled("hooks", hooks_id(hooks), hooks))
    installed = {normalized(declared.origin.distribution) for declared in found}
    others = (problem for problem in host.problems if problem not in clashing)
    return [*findings, *(_undeclared(problem, installed) for problem in others)]


def _disabled(kind: str, full_id: str, entry: ComponentEntry | HooksEntry) -> Finding:
    origin = entry.origin
    return Finding(
        kind, full_id, origin.distribution, origin.version, str(entry.target), "disabled"
    )


def _clash(entry: ComponentEntry, problem: Problem) -> Finding:
    origin = entry.origin
    return Finding(
        kind=entry.kind,
        id=entry.id,
        distribution=origin.distribution,
        version=origin.version,
        target=str(entry.target),
        status="clash",
        message=problem.message,
        advice=f"uninstall {origin.distribution}, or keep it and uninstall or rename the other",
    )


def _undeclared(problem: Problem, installed: set[str]) -> Finding:
    """A problem that discovery found, and which leaves nothing to import."""
    origin = problem.origin
    left_out = f"install another release of {origin.distribution}, or --disable {origin.namespace}"
    advice = problem.advice or left_out
    if normalized(origin.distribution) not in installed:
        advice = f"check the name in --disable and {DISABLE_VARIABLE}"
    return Finding(
        kind=problem.kind or "metadata",
        id=problem.id or origin.namespace,
        distribution=origin.distribution,
        version=origin.version,
        target="",
        status="broken",
        message=problem.message,
        advice=advice,
    )


def _late_clashes(host: Host, cases: Sequence[Case], examined: Sequence[Examined]) -> list[Finding]:
    """Components of hooks modules and files whose id is taken by something else."""
    owners: dict[tuple[str, str], dict[str, Origin]] = defaultdict(dict)
    for entry in host.components():
        owners[entry.kind, entry.id][str(entry.target)] = entry.origin
    for case, result in zip(cases, examined, strict=True):
        for made in result.report.get("components", ()):
            owners[made["kind"], made["id"]][made["target"]] = case.origin
    return [
        Finding(
            kind=kind,
            id=full_id,
            distribution=origin.distribution,
            version=origin.version,
            target=target,
            status="clash",
            message=f"{kind} '{full_id}' is announced more than once: {', '.join(targets)}",
            advice="rename one, or leave one out",
        )
        for (kind, full_id), targets in owners.items()
        if len(targets) > 1
        for target, origin in targets.items()
    ]


def _environment(torch: Examined, disabled: tuple[str, ...]) -> dict[str, Any]:
    named = [*disabled, *os.environ.get(DISABLE_VARIABLE, "").split(",")]
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "torch": torch.report.get("torch"),
        "cuda": torch.report.get("cuda"),
        "devices": list(torch.report.get("devices", ())),
        "disabled": sorted({normalized(name.strip()) for name in named if name.strip()}),
    }


def _order(finding: Finding) -> tuple[Any, ...]:
    """By distribution, then by kind as people meet them, then by id."""
    place = {kind: position for position, kind in enumerate(KINDS)}
    kind = place.get(finding.kind, len(place))
    return normalized(finding.distribution), kind, finding.kind, finding.id, finding.target
