"""A blueprint with other settings of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from diffkit.assembly.blueprint import Blueprint, problems_of
from diffkit.assembly.instances import training_instances_aside
from diffkit.assembly.read import training_choices
from diffkit.assembly.training import changed_places
from diffkit.config.signature import as_json, explained
from diffkit.config.spec import TRAINING_KEYS, TrainingSpec, spelled_out
from diffkit.plugins.host import Host


def with_training(blueprint: Blueprint, changes: Mapping[str, Any], host: Host) -> Blueprint:
    """The blueprint with these settings of training changed, and what is wrong with them."""
    assert blueprint.settings is not None
    settings, kept = blueprint.settings, changed_places(blueprint.training, changes)
    try:
        changes = spelled_out(changes)
    except ValueError as error:
        return replace(blueprint, problems=problems_of([f"training.{error}"]))
    before = {name: choice for name, choice in blueprint.choices.items() if choice.instance}
    fields = {**{n: c.instance for n, c in before.items()}, "training": changes}
    plain, instances, problems = training_instances_aside(fields, host)
    merged = {**settings.training.model_dump(mode="json"), **plain["training"]}
    try:
        training = TrainingSpec.model_validate_json(as_json(merged))
    except ValidationError as error:
        wrong = problems_of(explained(error, "training", TRAINING_KEYS))
        return replace(blueprint, problems=(*problems, *wrong))
    except (ValueError, RecursionError) as error:
        wrong = problems_of([f"training: {error}"])
        return replace(blueprint, problems=(*problems, *wrong))
    settings = settings.model_copy(update={"training": training})
    found, wrong = training_choices(settings, {**kept, **instances}, host)
    return replace(blueprint, settings=settings, training=found, problems=(*problems, *wrong))
