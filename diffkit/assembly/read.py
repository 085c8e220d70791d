"""From what a user wrote to a blueprint: names become classes, configurations are checked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from diffkit.arguments import path
from diffkit.assembly.blueprint import Blueprint, Choice, Problem, problems_of
from diffkit.assembly.instances import instances_aside, training_instances_aside
from diffkit.assembly.read_choice import read_choice
from diffkit.assembly.references import references
from diffkit.config.files import read_data
from diffkit.config.signature import as_json, explained
from diffkit.config.spec import COMPONENT_FIELDS, ComponentSpec, PipelineSpec
from diffkit.core.component import Component
from diffkit.errors import SpecError
from diffkit.plugins.host import Host

RawSpec = PipelineSpec | Mapping[str, Any] | str | Path
RawChoice = str | Mapping[str, Any] | Component
DISPENSABLE = ("observer",)
"""The kinds whose components may be missing: nothing is computed with them."""


def read(raw: RawSpec, host: Host) -> Blueprint:
    """The blueprint of a raw spec, read as far as it can be, with everything that is wrong."""
    host.load_hooks()
    fields = _as_mapping(raw)
    plain, instances, problems = instances_aside(fields, host)
    plain, of_training, wrong = training_instances_aside(plain, host)
    problems += wrong
    settings, wrong = _settings(plain)
    problems += wrong
    choices = dict(instances)
    for kind in COMPONENT_FIELDS:
        reference = None if kind in choices else _reference(kind, plain, settings)
        if reference is not None:
            recorded = {} if settings is None else settings.provenance
            choice, wrong = read_choice(kind, reference, host, recorded)
            problems += wrong
            choices |= {} if choice is None else {kind: choice}
    ordered = {k: choices[k] for k in COMPONENT_FIELDS if k in choices}
    training: Mapping[str, Choice] = {}
    if settings is not None:
        training, wrong = training_choices(settings, of_training, host)
        problems += wrong
    return Blueprint(ordered, settings, problems, training)


def with_choices(blueprint: Blueprint, changes: Mapping[str, RawChoice], host: Host) -> Blueprint:
    """The blueprint with these parts in place of its own, and what is wrong with them."""
    plain, instances, problems = instances_aside(changes, host)
    choices = dict(instances)
    for kind, value in plain.items():
        if kind in choices:
            continue
        try:
            reference = ComponentSpec.model_validate_json(as_json(value))
        except ValidationError as error:
            problems += problems_of(explained(error, kind))
        except (ValueError, RecursionError) as error:
            problems += problems_of([f"{kind}: {error}"])
        else:
            choice, wrong = read_choice(kind, reference, host, {})
            problems += wrong
            choices |= {} if choice is None else {kind: choice}
    return replace(blueprint.replace(**choices), problems=problems)


def training_choices(
    settings: PipelineSpec, known: Mapping[str, Choice], host: Host
) -> tuple[dict[str, Choice], tuple[Problem, ...]]:
    """What a pipeline is trained with, by path, but for what is known already."""
    choices: dict[str, Choice] = {}
    problems: tuple[Problem, ...] = ()
    for place, reference in references(settings.training):
        if place in known:
            choices[place] = known[place]
            continue
        where = f"training.{place}"
        read = read_choice(str(reference.kind), reference, host, settings.provenance, where)
        if read.choice is None and reference.kind in DISPENSABLE:
            said = "; ".join(problem.text for problem in read.problems)
            warnings.warn(f"{said}. What is here works without it", stacklevel=2)
            continue
        problems += read.problems
        choices |= {} if read.choice is None else {place: read.choice}
    return choices, problems


def _as_mapping(raw: RawSpec) -> Mapping[str, Any]:
    if isinstance(raw, PipelineSpec):
        return raw.model_dump(mode="json")
    if isinstance(raw, Mapping):
        return raw
    if isinstance(raw, str | os.PathLike):
        return read_data(path(raw, "the spec"))
    raise SpecError([f"a spec is a mapping, a PipelineSpec or a path, not {type(raw).__name__}"])


def _settings(plain: Mapping[str, Any]) -> tuple[PipelineSpec | None, tuple[Problem, ...]]:
    try:
        return PipelineSpec.model_validate_json(as_json(plain)), ()
    except ValidationError as error:
        return None, problems_of(explained(error, "", PipelineSpec.model_fields))
    except (ValueError, RecursionError) as error:
        return None, problems_of([f"it cannot be read: {error}"])


def _reference(
    kind: str, plain: Mapping[str, Any], settings: PipelineSpec | None
) -> ComponentSpec | None:
    """The component named in a field, if one readably is."""
    if settings is not None:
        named: ComponentSpec | None = getattr(settings, kind)
        return named
    try:
        return ComponentSpec.model_validate_json(as_json(plain[kind]))
    except (KeyError, ValueError, RecursionError):
        return None
