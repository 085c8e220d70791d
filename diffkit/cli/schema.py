"""A component's JSON schema in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_BOUNDS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "like {}",
}


def described(
    schema: Mapping[str, Any], supplied: Mapping[str, str], in_code: Sequence[str] = ()
) -> list[tuple[str, list[str]]]:
    """Titles with lines: the arguments, what the pipeline supplies, and what only code gives."""
    required = set(schema.get("required", ()))
    rows = [
        (name, type_in_words(field), _default(name, field, required))
        for name, field in schema.get("properties", {}).items()
        if name not in supplied
    ]
    arguments = _aligned(rows) if rows else ["none"]
    sections = [("Arguments", arguments)]
    if supplied:
        filled = [(name, f"from {source}") for name, source in supplied.items()]
        sections.append(("Supplied by the pipeline", _aligned(filled)))
    if in_code:
        sections.append(("Given in code only, so that no file can make it", list(in_code)))
    return sections


def type_in_words(field: Mapping[str, Any]) -> str:
    """`integer, > 0`; `"a" | "b"`; `a weighting`; `list of integers` ..."""
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        return f"a {name.removesuffix('Spec').lower()} (a name, or its id and config)"
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " | ".join(type_in_words(option) for option in field[key])
    if "const" in field:
        return json.dumps(field["const"])
    if "enum" in field:
        return " | ".join(json.dumps(value) for value in field["enum"])
    bounds = [
        words.format(field[key])
        for key, words in _BOUNDS.items()
        if key in field and not ("prefixItems" in field and key.endswith("Items"))
    ]
    return ", ".join([_name(field), *bounds])


def _name(field: Mapping[str, Any]) -> str:
    if "prefixItems" in field:
        return f"[{'; '.join(type_in_words(item) for item in field['prefixItems'])}]"
    if field.get("type") == "array":
        items = field.get("items")
        return f"list of ({type_in_words(items)})" if items else "list"
    return str(field.get("type", "anything"))


def _default(name: str, field: Mapping[str, Any], required: set[str]) -> str:
    if name in required:
        return "required"
    default = field.get("default")
    if isinstance(default, Mapping) and "id" in default:
        config = default.get("config")
        return f"default {default['id']}{' ' + json.dumps(config) if config else ''}"
    return f"default {json.dumps(default)}"


def _aligned(
    rows: list[tuple[str, ...]] | list[tuple[str, str]] | list[tuple[str, str, str]],
) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
