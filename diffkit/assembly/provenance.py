"""References inside configurations, written out in full, and where each component came from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from diffkit.config.signature import Signature, signature_of, validated
from diffkit.config.spec import COMPONENT_FIELDS, ComponentSpec, PipelineSpec, Provenance
from diffkit.errors import SpecError
from diffkit.plugins.host import Host

MOST_NESTED = 32
"""Components within one another."""

UNREGISTERED = "unregistered."
"""Begins the id of an instance whose class no plugin declares; it can run but not be saved."""


def references(config: BaseModel, where: str) -> list[tuple[str, ComponentSpec]]:
    """Every component reference among the values of a configuration, with its path."""
    found: list[tuple[str, ComponentSpec]] = []

    def look(value: object, path: str) -> None:
        if isinstance(value, ComponentSpec):
            found.append((path, value))
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                look(item, f"{path}[{index}]")
        elif isinstance(value, dict):
            for key, item in value.items():
                look(item, f"{path}.{key}")

    for name in type(config).model_fields:
        look(getattr(config, name), f"{where}.{name}")
    return found


def written_out(kind: str, reference: ComponentSpec, host: Host) -> ComponentSpec:
    """The reference with its full id and every argument, and so those within it.

    What the pipeline supplies, and the reference does not say, is left out.

    Raises:
        ComponentError: a component is not there, or has no schema.
        SpecError: a configuration is wrong.
    """
    entry = host.find(kind, reference.id)
    signature = signature_of(host.load(entry), host)
    config, problems = validated(signature, reference.config, entry.id)
    if config is None:
        raise SpecError(problems)
    return ComponentSpec(id=entry.id, config=configuration(config, signature, host))


def configuration(config: BaseModel, signature: Signature, host: Host) -> dict[str, Any]:
    """The arguments of a checked configuration as `written_out` has them, in JSON form."""
    unsaid = {name for name in signature.supplied if getattr(config, name) is None}
    data = config.model_dump(mode="json", exclude=unsaid)
    return {name: _in_full(getattr(config, name), value, host) for name, value in data.items()}


def _in_full(value: Any, data: Any, host: Host) -> Any:
    """The JSON form of a value, with each reference in it written out."""
    if isinstance(value, ComponentSpec):
        return written_out(str(value.kind), value, host).model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_in_full(item, form, host) for item, form in zip(value, data, strict=True)]
    if isinstance(value, dict):
        pairs = zip(value.values(), data.items(), strict=True)
        return {key: _in_full(item, form, host) for item, (key, form) in pairs}
    return data


def provenance_of(spec: PipelineSpec, host: Host) -> dict[str, Provenance]:
    """The distribution and version of every component in a spec, by full id."""
    found: dict[str, Provenance] = {}
    for field in COMPONENT_FIELDS:
        reference = getattr(spec, field)
        if reference is not None and not reference.id.startswith(UNREGISTERED):
            found.update(_sources(field, reference, host))
    return found


def _sources(kind: str, reference: ComponentSpec, host: Host) -> dict[str, Provenance]:
    entry = host.find(kind, reference.id)
    origin = entry.origin
    found = {
        entry.id: Provenance(
            distribution=origin.distribution, version=origin.version, sha256=origin.sha256
        )
    }
    config, _ = validated(signature_of(host.load(entry), host), reference.config, entry.id)
    if config is not None:
        for _, nested in references(config, entry.id):
            found.update(_sources(str(nested.kind), nested, host))
    return found
