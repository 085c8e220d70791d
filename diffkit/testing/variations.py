"""Other valid values for each argument of a component, one argument at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diffkit.config.signature import Signature, signature_of, validated
from diffkit.testing.component_under_test import ComponentUnderTest

_TRIES = 5


def variations(subject: ComponentUnderTest) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """For each argument with values to choose from: its name, and configurations that change it.

    Arguments that the pipeline supplies, texts, and components have no such values.
    """
    signature = signature_of(subject.cls, subject.host)
    config, _ = validated(signature, subject.config, subject.entry.id)
    if config is None:
        return
    schema = signature.model.model_json_schema()
    for name, field in schema.get("properties", {}).items():
        if name in signature.supplied:
            continue
        values = _others(getattr(config, name), field)
        found = list(_valid(subject, signature, name, values))
        if found:
            yield name, found[:_TRIES]


def _valid(
    subject: ComponentUnderTest, signature: Signature, name: str, values: list[Any]
) -> Iterator[Mapping[str, Any]]:
    for value in values:
        changed = {**subject.config, name: value}
        if validated(signature, changed, subject.entry.id)[0] is not None:
            yield changed


def _others(value: Any, schema: Mapping[str, Any]) -> list[Any]:
    """Other values of an argument, whether or not its range allows them."""
    choices = [option for part in _parts(schema) for option in part.get("enum", ())]
    if choices:
        return [choice for choice in choices if choice != value]
    kinds = {part.get("type") for part in _parts(schema)}
    if isinstance(value, bool) or (value is None and "boolean" in kinds):
        return [other for other in (True, False) if other is not value]
    if isinstance(value, int):
        return [value + 1, 2 * value, value // 2, 3, value - 1, value + 2]
    if isinstance(value, float):
        # The first is also what others are changed beside: of two tolerances that add up, one
        # shows only where the other is tight.
        return [0.01 * value, 1.5 * value, 0.5 * value, value + 0.1, value + 1.0, value - 0.1]
    if value is None and "number" in kinds:
        return [0.5, 1.0, 2.0]
    if value is None and "integer" in kinds:
        return [1, 2, 3]
    return []


def _parts(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [schema, *schema.get("anyOf", ())]
