"""Other components for a walk, checked like those of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffkit.assembly.build import Assembler
from diffkit.core.component import Component, arguments_of

_WALKED = ("sampler", "spacing", "schedule", "process")


def swapped(assembler: Assembler, choices: Mapping[str, Any]) -> dict[str, Component]:
    """The components of a walk, with these choices in place of the pipeline's.

    Raises:
        SpecError: with everything that is wrong with the choices.
    """
    made = {kind: assembler.instances[kind] for kind in _WALKED}
    if not choices:
        return made
    assert assembler.spec is not None
    raw: dict[str, Any] = assembler.spec.model_dump(mode="json")
    # What is unchanged is reused as it stands; the model is not looked at again.
    raw.update({kind: assembler.instances[kind] for kind in assembler.instances})
    raw.update(choices)
    if "schedule" in choices and "process" not in choices:
        raw["process"] = _with_schedule(assembler)
    other = Assembler(raw, assembler.host)
    parts = other.assemble()
    return {kind: getattr(parts, kind) for kind in _WALKED}


def _with_schedule(assembler: Assembler) -> Any:
    """The process's spec, without the schedule that it was supplied with."""
    assert assembler.spec is not None
    process = assembler.instances["process"]
    if not assembler.spec.process.id.startswith("unregistered."):
        return assembler.spec.process.model_dump(mode="json")
    raise _cannot(process)


def _cannot(process: Component) -> Exception:
    from diffkit.errors import SpecError

    arguments = ", ".join(arguments_of(process))
    return SpecError(
        [f"process: {type(process).__name__}({arguments}) is not registered, so it cannot be made "
         "again with another schedule; give the process too"]
    )
