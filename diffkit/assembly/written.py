"""References inside configurations, and where each component came from."""

from __future__ import annotations

from pydantic import BaseModel

from diffkit.plugins.host import Host
from diffkit.spec.pipeline import COMPONENT_FIELDS, ComponentSpec, PipelineSpec, Provenance
from diffkit.spec.signature import signature_of, validated

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
