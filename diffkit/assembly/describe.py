"""From a blueprint back to a spec that says everything."""

from __future__ import annotations

from typing import Any

from diffkit.assembly.blueprint import UNREGISTERED, Blueprint
from diffkit.config.spec import ComponentSpec, DataSpec, PipelineSpec, Provenance


def describe(blueprint: Blueprint, data: DataSpec) -> PipelineSpec:
    """The spec with full ids, every default and the provenance written out.

    An instance without a spec has an id that says so, and no file can name it.
    """
    assert blueprint.settings is not None
    changes: dict[str, Any] = {"data": data}
    provenance: dict[str, Provenance] = {}
    for kind, choice in blueprint.choices.items():
        unnamed = ComponentSpec(id=f"{UNREGISTERED}{choice.component.__name__}")
        changes[kind] = choice.described or unnamed
        provenance |= choice.provenance
    return blueprint.settings.model_copy(update={**changes, "provenance": provenance})
