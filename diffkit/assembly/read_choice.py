"""From a reference to a choice: its name becomes a class, its configuration is checked."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from diffkit.assembly.blueprint import Choice, Problem, problems_of
from diffkit.assembly.references import references
from diffkit.config.signature import Signature, signature_of, validated
from diffkit.config.spec import ComponentSpec, Provenance
from diffkit.core.run import Run
from diffkit.errors import ComponentError
from diffkit.plugins.entries import ComponentEntry
from diffkit.plugins.host import Host

MOST_NESTED = 32
"""Components within one another."""


class Read(NamedTuple):
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
) -> Read:
    """One component by its reference, and those within it.

    `recorded` is where the components of a saved spec came from.
    """
    where = kind if where is None else where
    if depth > MOST_NESTED:
        return Read(
            None, problems_of([f"{where}: over {MOST_NESTED} components within one another"])
        )
    try:
        component = host.resolve(kind, reference.id)
        signature = signature_of(component, host)
    except ComponentError as error:
        hint = _how_to_get(kind, reference.id, host, recorded)
        return Read(None, problems_of([f"{where}: {error}{hint}"]))
    entry = host.find(kind, reference.id)
    _compare_file(entry, recorded)
    config, wrong = validated(signature, reference.config, where)
    if config is None:
        found = Choice(kind, component, supplied=signature.supplied)
        return Read(found, problems_of(wrong))
    nested, problems = _within(config, host, recorded, where, depth + 1)
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
    return Read(found, problems)


def _within(
    config: BaseModel, host: Host, recorded: Mapping[str, Provenance], where: str, depth: int
) -> tuple[dict[str, Choice], tuple[Problem, ...]]:
    """The components among the arguments, by their path, and what is wrong with them."""
    choices: dict[str, Choice] = {}
    problems: tuple[Problem, ...] = ()
    for place, inner in references(config):
        found = read_choice(str(inner.kind), inner, host, recorded, f"{where}.{place}", depth)
        problems += found.problems
        choices |= {} if found.choice is None else {place: found.choice}
    return choices, problems


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
            # Of all its components alike, so that it is shown once.
            f"{entry.origin} has changed since this spec was saved: samples may differ",
            stacklevel=2,
        )
