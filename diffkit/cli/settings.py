"""`--set`: changes to a spec, each a dotted path and a value."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from diffkit.config.files import parse_yaml
from diffkit.config.spec import (
    COMPONENT_FIELDS,
    EMA_DECAY,
    TRAINING_KEYS,
    TRAINING_KINDS,
    DataSpec,
    PipelineSpec,
    SpecModel,
    TrainingSpec,
    spelled_out,
)
from diffkit.errors import SpecError

_SECTIONS: dict[str, type[SpecModel]] = {"training": TrainingSpec, "data": DataSpec}
_FIELDS = tuple(name for name in PipelineSpec.model_fields if name != "provenance")


def with_settings(raw: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A copy of a spec, changed by settings such as `model.width=64`.

    Under a component a key other than `id` and `config` is one of its configuration:
    `loss.weighting=none` means `loss.config.weighting`. A component alone is replaced:
    `sampler=ddpm`. Values are YAML 1.2, so JSON too.

    Raises:
        SpecError: a setting cannot be read, or there is no such path; with all of them.
    """
    spec: dict[str, Any] = copy.deepcopy(dict(raw))
    problems = []
    for setting in settings:
        try:
            _apply(spec, setting)
        except _Nowhere as error:
            problems.append(f"--set {setting}: {error}")
    if problems:
        raise SpecError(problems)
    return spec


class _Nowhere(Exception):
    """Why a setting cannot be applied."""


def _apply(spec: dict[str, Any], setting: str) -> None:
    path, separator, text = setting.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise _Nowhere("a setting is a dotted path, '=', and a value: model.width=64")
    field = keys[0]
    if field not in _FIELDS:
        raise _Nowhere(_no_such(field, "a spec", _FIELDS))
    value = _parsed(text)
    if len(keys) == 1:
        spec[field] = value
    elif field in COMPONENT_FIELDS:
        _set_in_component(_opened(spec, field), field, keys[1:], value)
    elif field in _SECTIONS:
        _set_in_section(spec, field, keys[1:], value)
    else:
        raise _Nowhere(f"'{field}' is one value; there is nothing under it")


def _parsed(text: str) -> Any:
    try:
        return parse_yaml(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise _Nowhere(f"the value cannot be parsed: {reason}") from error


def _opened(spec: dict[str, Any], field: str) -> dict[str, Any]:
    """The component of a spec as `{id, config}`, in place; its default where it has one."""
    found = spec.get(field)
    if found is None:
        default = PipelineSpec.model_fields[field].default
        if not hasattr(default, "model_dump"):
            raise _Nowhere(f"the spec names no {field}; set {field}=NAME first")
        found = default.model_dump(mode="json")
    spec[field] = _as_component(found, field)
    return spec[field]  # type: ignore[no-any-return]


def _as_component(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"id": value, "config": {}}
    if isinstance(value, dict) and isinstance(value.get("config", {}), dict):
        return {**value, "config": dict(value.get("config", {}))}
    raise _Nowhere(f"'{where}' is not a component, so there is nothing under it")


def _set_in_component(component: dict[str, Any], where: str, keys: list[str], value: Any) -> None:
    if keys in (["id"], ["config"]):
        component[keys[0]] = value
        return
    if keys[0] == "config":
        where, keys = f"{where}.config", keys[1:]
    _set_in_config(component["config"], where, keys, value)


def _set_in_config(config: dict[str, Any], where: str, keys: list[str], value: Any) -> None:
    """Set a value in a configuration, where values may be components themselves."""
    key, rest = keys[0], keys[1:]
    if not rest:
        config[key] = value
        return
    where = f"{where}.{key}"
    found = config.get(key)
    if isinstance(found, dict) and "id" not in found:
        _set_in_config(found, where, rest, value)
    elif isinstance(found, list):
        _set_in_list(found, where, rest, value)
    elif found is None:
        raise _Nowhere(f"the spec gives no '{where}'; set {where}=NAME first")
    else:
        config[key] = _as_component(found, where)
        _set_in_component(config[key], where, rest, value)


def _set_in_list(found: list[Any], where: str, keys: list[str], value: Any) -> None:
    positions = [str(position) for position in range(len(found))]
    if keys[0] not in positions:
        raise _Nowhere(f"'{where}' is a list; its positions are {', '.join(positions) or 'none'}")
    at, where = int(keys[0]), f"{where}.{keys[0]}"
    if len(keys) == 1:
        found[at] = value
    else:
        found[at] = _as_component(found[at], where)
        _set_in_component(found[at], where, keys[1:], value)


def _set_in_section(spec: dict[str, Any], field: str, keys: list[str], value: Any) -> None:
    of_training = field == "training"
    known = TRAINING_KEYS if of_training else tuple(_SECTIONS[field].model_fields)
    if keys[0] not in known:
        raise _Nowhere(_no_such(keys[0], f"'{field}'", known))
    section = spec.get(field)
    if section is not None and not isinstance(section, dict):
        raise _Nowhere(f"'{field}' should be a mapping in the spec")
    section = dict(section or {})
    if len(keys) > 1 and not (of_training and keys[0] in TRAINING_KINDS):
        raise _Nowhere(f"'{field}.{keys[0]}' is one value; there is nothing under it")
    if len(keys) > 1:
        _set_in_training(section, keys, value)
    else:
        if keys[0] in (EMA_DECAY, "averages"):
            section = {k: v for k, v in section.items() if k not in (EMA_DECAY, "averages")}
        section[keys[0]] = value
    spec[field] = section


def _set_in_training(section: dict[str, Any], keys: list[str], value: Any) -> None:
    """Set a value under a component of training, or among several of them by their names."""
    try:
        section.update(spelled_out({k: section.pop(k) for k in (EMA_DECAY,) if k in section}))
    except ValueError as error:
        raise _Nowhere(f"training.{error}") from error
    if keys[0] not in section:
        default = getattr(TrainingSpec(), keys[0])
        section[keys[0]] = TypeAdapter(Any).dump_python(default, mode="json")
    found = section[keys[0]]
    if isinstance(found, int | float):
        section[keys[0]] = {"id": "diffkit.constant", "config": {"rate": found}}
    elif isinstance(found, dict) and "id" not in found and keys[1] not in found and len(keys) == 2:
        found[keys[1]] = value
        return
    _set_in_config(section, "training", keys, value)


def _no_such(key: str, where: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{where} has no key '{key}'; {hint}the keys are {', '.join(names)}"
