"""From what a user wrote to a blueprint: names become classes, configurations are checked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from diffkit.arguments import path
from diffkit.assembly.blueprint import UNREGISTERED, Blueprint, Choice, Problem
from diffkit.assembly.references import references
from diffkit.assembly.training import training_aside
from diffkit.config.files import read_data
from diffkit.config.signature import (
    Signature,
    as_json,
    explained,
    reference_of,
    signature_of,
    validated,
)
from diffkit.config.spec import (
    COMPONENT_FIELDS,
    ComponentSpec,
    PipelineSpec,
    Provenance,
)
from diffkit.core.component import Component, alike, arguments_of
from diffkit.core.data import is_fact
from diffkit.core.run import Run
from diffkit.errors import ComponentError, SpecError
from diffkit.plugins.entries import ComponentEntry
from diffkit.plugins.host import Host

RawSpec = PipelineSpec | Mapping[str, Any] | str | Path
RawChoice = str | Mapping[str, Any] | Component
DISPENSABLE = ("observer",)
"""The kinds whose components may be missing: nothing is computed with them."""
MOST_NESTED = 32
"""Components within one another."""


def read(raw: RawSpec, host: Host) -> Blueprint:
    """The blueprint of a raw spec, read as far as it can be, with everything that is wrong."""
    host.load_hooks()
    fields = _as_mapping(raw)
    plain, instances, problems = _instances_aside(fields, host)
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
    plain, instances, problems = _instances_aside(changes, host)
    choices = dict(instances)
    for kind, value in plain.items():
        if kind in choices:
            continue
        try:
            reference = ComponentSpec.model_validate_json(as_json(value))
        except ValidationError as error:
            problems += _problems(explained(error, kind))
        except (ValueError, RecursionError) as error:
            problems += _problems([f"{kind}: {error}"])
        else:
            choice, wrong = read_choice(kind, reference, host, {})
            problems += wrong
            choices |= {} if choice is None else {kind: choice}
    return replace(blueprint.replace(**choices), problems=problems)


def training_instances_aside(
    fields: Mapping[str, Any], host: Host
) -> tuple[dict[str, Any], dict[str, Choice], tuple[Problem, ...]]:
    """The fields of a spec without the instances in its training; these, by path."""

    def choose(component: Component) -> Choice:
        return _of_instance(component.kind, component, fields, host)

    plain, choices, wrong = training_aside(fields, choose)
    return plain, choices, _problems(wrong)


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


class _Read(NamedTuple):
    """What reading gives: a choice, where the class was found, and what is wrong."""

    choice: Choice | None
    problems: tuple[Problem, ...]


def read_choice(
    kind: str,
    reference: ComponentSpec,
    host: Host,
    recorded: Mapping[str, Provenance],
    where: str | None = None,
    depth: int = 0,
) -> _Read:
    """One component by its reference, and those within it.

    `recorded` is where the components of a saved spec came from.
    """
    where = kind if where is None else where
    if depth > MOST_NESTED:
        return _Read(
            None, _problems([f"{where}: over {MOST_NESTED} components within one another"])
        )
    try:
        component = host.resolve(kind, reference.id)
        signature = signature_of(component, host)
    except ComponentError as error:
        hint = _how_to_get(kind, reference.id, host, recorded)
        return _Read(None, _problems([f"{where}: {error}{hint}"]))
    entry = host.find(kind, reference.id)
    _compare_file(entry, recorded)
    config, wrong = validated(signature, reference.config, where)
    if config is None:
        found = Choice(kind, component, supplied=signature.supplied)
        return _Read(found, _problems(wrong))
    nested: dict[str, Choice] = {}
    problems: tuple[Problem, ...] = ()
    for place, inner in references(config):
        choice, more = read_choice(
            str(inner.kind), inner, host, recorded, f"{where}.{place}", depth + 1
        )
        problems += more
        nested |= {} if choice is None else {place: choice}
    found = Choice(
        kind,
        component,
        config=config,
        supplied=signature.supplied,
        in_code=signature.in_code,
        runs=_runs(signature, config, host),
        nested=nested,
        described=None if problems else _described(entry, config, signature, nested),
        provenance=_provenance(entry, nested),
    )
    return _Read(found, problems)


def _runs(signature: Signature, config: BaseModel, host: Host) -> dict[str, Run]:
    named = {name: getattr(config, name) for name in signature.runs}
    return {name: Run(where, host=host) for name, where in named.items() if where is not None}


def _described(
    entry: ComponentEntry, config: BaseModel, signature: Signature, nested: Mapping[str, Choice]
) -> ComponentSpec:
    """With its full id and every argument, and so those within it.

    What the pipeline supplies, and the configuration does not say, is left out.
    """
    unsaid = {name for name in signature.supplied if getattr(config, name) is None}
    data = config.model_dump(mode="json", exclude=unsaid)
    full = {
        name: _in_full(getattr(config, name), form, name, nested) for name, form in data.items()
    }
    return ComponentSpec(id=entry.id, config=full)


def _in_full(value: Any, data: Any, place: str, nested: Mapping[str, Choice]) -> Any:
    """The JSON form of a value, with each reference in it written out."""
    if isinstance(value, ComponentSpec):
        described = nested[place].described
        assert described is not None
        return described.model_dump(mode="json")
    if isinstance(value, list | tuple):
        pairs = enumerate(zip(value, data, strict=True))
        return [_in_full(v, form, f"{place}[{i}]", nested) for i, (v, form) in pairs]
    if isinstance(value, dict):
        items = zip(value.items(), data.items(), strict=True)
        return {key: _in_full(v, form, f"{place}.{k}", nested) for (k, v), (key, form) in items}
    return data


def _provenance(entry: ComponentEntry, nested: Mapping[str, Choice]) -> dict[str, Provenance]:
    origin = entry.origin
    own = Provenance(distribution=origin.distribution, version=origin.version, sha256=origin.sha256)
    found = {entry.id: own}
    for choice in nested.values():
        found |= choice.provenance
    return found


# -- what the user gave ------------------------------------------------------------------------


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
        return None, _problems(explained(error, "", PipelineSpec.model_fields))
    except (ValueError, RecursionError) as error:
        return None, _problems([f"it cannot be read: {error}"])


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


def _instances_aside(
    fields: Mapping[str, Any], host: Host
) -> tuple[dict[str, Any], dict[str, Choice], tuple[Problem, ...]]:
    """The fields with instances replaced by what describes them; those instances; what is wrong."""
    plain = dict(fields)
    choices: dict[str, Choice] = {}
    problems: tuple[Problem, ...] = ()
    for kind, value in fields.items():
        if not isinstance(value, Component):
            continue
        if kind not in COMPONENT_FIELDS or value.kind != kind:
            wrong = f"{kind}: an instance of a {value.kind} does not belong here"
            problems += _problems([wrong])
            del plain[kind]
            continue
        choices[kind] = _of_instance(kind, value, fields, host)
        described = choices[kind].described
        plain[kind] = (
            {"id": f"{UNREGISTERED}{type(value).__name__}"}
            if described is None
            else described.model_dump(mode="json")
        )
    return plain, choices, problems


def _of_instance(kind: str, component: Component, beside: Mapping[str, Any], host: Host) -> Choice:
    """The choice of an instance, described without what the pipeline will supply again."""
    supplied: Mapping[str, str] = {}
    held = arguments_of(component)
    try:
        supplied = signature_of(type(component), host).supplied
        elsewhere = {
            name
            for name, source in supplied.items()
            # Facts of an encoder may not be there to supply it the next time.
            if not is_fact(source) and not _own(held.get(name), beside.get(source))
        }
        described = reference_of(component, host, leave_out=elsewhere)
    except ComponentError as error:
        return Choice(
            kind,
            type(component),
            supplied=supplied,
            instance=component,
            given=held,
            undescribed=str(error),
        )
    as_read = read_choice(kind, described, host, {}).choice
    provenance = {} if as_read is None else as_read.provenance
    return Choice(
        kind,
        type(component),
        supplied=supplied,
        instance=component,
        given=held,
        described=described,
        provenance=provenance,
    )


def _own(held: Any, supplied: Any) -> bool:
    """Whether a component holds another one than the one that the pipeline supplies it with.

    Of one that the pipeline has yet to make, that is seen when it is made.
    """
    if not isinstance(held, Component):
        return False
    return supplied is None or (isinstance(supplied, Component) and not alike(held, supplied))


# -- advice ------------------------------------------------------------------------------------


def _how_to_get(kind: str, full_id: str, host: Host, recorded: Mapping[str, Provenance]) -> str:
    """Where a missing component of a saved spec came from."""
    source = recorded.get(full_id)
    if source is None or host.knows(kind, full_id):
        return ""
    if source.sha256 is not None:
        return f". It came from the file {source.distribution}: name it as a plugin file"
    return (
        f". It came from {source.distribution} {source.version}, which is not here: "
        f"pip install '{source.distribution}=={source.version}'"
    )


def _compare_file(entry: ComponentEntry, recorded: Mapping[str, Provenance]) -> None:
    """Warn where a plugin file is not the one that the saved spec was made with."""
    source = recorded.get(entry.id)
    if source is not None and source.sha256 != entry.origin.sha256:
        warnings.warn(
            f"{entry.kind} '{entry.id}' comes from {entry.origin}, which has changed since this "
            "spec was saved: samples may differ",
            stacklevel=2,
        )


def _problems(texts: list[str]) -> tuple[Problem, ...]:
    return tuple(Problem(text) for text in texts)
