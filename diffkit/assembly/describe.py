"""From a blueprint back to a spec that says everything."""

from __future__ import annotations

from typing import Any

from diffkit.assembly.blueprint import UNREGISTERED, Blueprint
from diffkit.assembly.references import with_references
from diffkit.config.spec import (
    TRAINING_KINDS,
    ComponentSpec,
    DataSpec,
    PipelineSpec,
    Provenance,
    TrainingSpec,
)


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
    training, of_training = described_training(blueprint)
    changes |= {"training": training, "provenance": {**provenance, **of_training}}
    return blueprint.settings.model_copy(update=changes)


def described_training(blueprint: Blueprint) -> tuple[TrainingSpec, dict[str, Provenance]]:
    """The settings of training with every component in them written out, and where these are
    from.
    """
    assert blueprint.settings is not None
    training = blueprint.settings.training
    provenance: dict[str, Provenance] = {}

    def in_full(place: str, reference: ComponentSpec) -> ComponentSpec:
        choice = blueprint.training.get(place)
        if choice is None:
            recorded = blueprint.settings.provenance if blueprint.settings else {}
            provenance.update({k: v for k, v in recorded.items() if k == reference.id})
            return reference
        provenance.update(choice.provenance)
        unnamed = f"{UNREGISTERED}{choice.component.__name__}"
        full = choice.described or ComponentSpec(id=unnamed)
        return type(reference)(id=full.id, config=full.config)

    changes = {
        name: with_references(getattr(training, name), name, in_full) for name in TRAINING_KINDS
    }
    return training.model_copy(update=changes), provenance
