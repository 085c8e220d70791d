"""Instances that stand in a spec in the place of references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffkit.assembly.blueprint import UNREGISTERED, Choice, Problem, problems_of
from diffkit.assembly.read_choice import read_choice
from diffkit.assembly.training import training_aside
from diffkit.config.signature import reference_of, signature_of
from diffkit.config.spec import COMPONENT_FIELDS
from diffkit.core.component import Component, alike, arguments_of
from diffkit.core.data import is_fact
from diffkit.errors import ComponentError
from diffkit.plugins.host import Host


def instances_aside(
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
            problems += problems_of([wrong])
            del plain[kind]
            continue
        choices[kind] = choice_of(kind, value, fields, host)
        described = choices[kind].described
        plain[kind] = (
            {"id": f"{UNREGISTERED}{type(value).__name__}"}
            if described is None
            else described.model_dump(mode="json")
        )
    return plain, choices, problems


def training_instances_aside(
    fields: Mapping[str, Any], host: Host
) -> tuple[dict[str, Any], dict[str, Choice], tuple[Problem, ...]]:
    """The fields of a spec without the instances in its training; these, by path."""

    def choose(component: Component) -> Choice:
        return choice_of(component.kind, component, fields, host)

    plain, choices, wrong = training_aside(fields, choose)
    return plain, choices, problems_of(wrong)


def choice_of(kind: str, component: Component, beside: Mapping[str, Any], host: Host) -> Choice:
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
