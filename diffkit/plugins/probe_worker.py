"""What `diffkit.plugins.probe` runs in a process of its own.

A task is a mapping: `{"task": "component" | "hooks" | "command", ...}` with the fields of an entry,
`{"task": "imports", "components": [...]}` with those of several, `{"task": "file", "file": path}`,
or `{"task": "torch"}`. The report holds `error`, a sentence or
None, and what was found.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffkit.errors import ComponentError
from diffkit.plugins.entries import CommandEntry, ComponentEntry, HooksEntry, Origin, name_problem
from diffkit.plugins.hookspecs import Register
from diffkit.plugins.isolation import call_each, cause_of, new_manager, register
from diffkit.plugins.kinds import KINDS
from diffkit.plugins.loading import (
    UnfitError,
    load_command,
    load_component,
    load_file,
    load_hooks,
)
from diffkit.plugins.metadata import unreadable_left_out

_Report = dict[str, Any]


def main(request: str) -> None:
    """Do the task in the file `request`, write the report beside it, and end the process."""
    task = json.loads(Path(request).read_text(encoding="utf-8"))
    # A little before the end, so that a hang shows where it is.
    faulthandler.dump_traceback_later(0.9 * task["timeout"])
    sys.argv = ["diffkit"]
    try:
        with unreadable_left_out():
            report = _TASKS[task["task"]](task)
    except KeyboardInterrupt as error:
        # Nobody presses Ctrl-C here.
        traceback.print_exception(error)
        notes = getattr(error, "__notes__", ())
        report = {"error": "; ".join(["it raised KeyboardInterrupt", *notes])}
    except ComponentError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        report = {"error": str(error)}
        if isinstance(error, UnfitError):
            report["advice"] = error.advice
    _finish(Path(request).parent, report)


def _finish(folder: Path, report: _Report) -> None:
    """Leave without what plugins may have planned for the end of the process."""
    written = folder / "report.json.part"
    written.write_text(json.dumps({"error": None, **report}), encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # A plugin closed it, or put something else in its place.
    os.replace(written, folder / "report.json")
    os._exit(0)


def _component(task: Mapping[str, Any]) -> _Report:
    load_component(ComponentEntry(task["kind"], task["name"], task["target"], _origin(task)))
    return {}


def _imports(task: Mapping[str, Any]) -> _Report:
    """Import several; what raises is not the question, but what ends the process or hangs."""
    for fields in task["components"]:
        print(f"importing {fields['target']}", flush=True)
        try:
            _component(fields)
        except (ComponentError, KeyboardInterrupt) as error:
            print(error, flush=True)
    return {}


def _hooks(task: Mapping[str, Any]) -> _Report:
    """Import the module, register it, and import the components that it announces."""
    entry = HooksEntry(task["name"], task["target"], _origin(task))
    manager, failures = new_manager(), []
    problem = register(manager, load_hooks(entry), entry.name)
    if problem is not None:
        raise ComponentError(f"{entry}: {problem}")
    announced: list[ComponentEntry] = []

    def arguments(plugin: str) -> dict[str, Register]:
        def announce(kind: str, name: str, target: str | type) -> None:
            if kind not in KINDS:
                raise ComponentError(f"there is no kind '{kind}'")
            wrong = name_problem(name, target)
            if wrong is not None:
                raise ComponentError(wrong)
            announced.append(ComponentEntry(kind, name, target, entry.origin))

        return {"register": announce}

    def report(plugin: str, error: BaseException) -> None:
        traceback.print_exception(error)
        failures.append(f"{entry}: diffkit_register raised {cause_of(error)}")

    call_each(manager, "diffkit_register", arguments, report)
    if failures:
        raise ComponentError(failures[0])
    for component in announced:
        load_component(component)
    return {"components": [_written(component) for component in announced]}


def _command(task: Mapping[str, Any]) -> _Report:
    load_command(CommandEntry(task["name"], task["target"], _origin(task)))
    return {}


def _file(task: Mapping[str, Any]) -> _Report:
    _, entries = load_file(Path(task["file"]))
    return {"components": [_written(entry) for entry in entries]}


def _torch(task: Mapping[str, Any]) -> _Report:
    try:
        import torch
    except (ImportError, OSError) as error:
        raise ComponentError(f"torch cannot be imported: {cause_of(error)}") from error
    count = torch.cuda.device_count()
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "devices": [torch.cuda.get_device_name(index) for index in range(count)],
    }


_TASKS: dict[str, Callable[[Mapping[str, Any]], _Report]] = {
    "component": _component,
    "imports": _imports,
    "hooks": _hooks,
    "command": _command,
    "file": _file,
    "torch": _torch,
}


def _origin(task: Mapping[str, Any]) -> Origin:
    return Origin(task["distribution"], task["version"], task["namespace"])


def _written(entry: ComponentEntry) -> dict[str, str]:
    target = entry.target
    if isinstance(target, type):
        target = f"{target.__module__}:{target.__qualname__}"
    return {"kind": entry.kind, "id": entry.id, "target": target}
