"""Building: every problem at once, and nothing large before there are none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from diffkit.assembly.checks import misfits, schedule_facts
from diffkit.assembly.system import Parts
from diffkit.core.component import Component, arguments_of
from diffkit.core.noise import mix
from diffkit.errors import ComponentError, DataError, SpecError
from diffkit.plugins.host import Host
from diffkit.spec.files import read_data
from diffkit.spec.pipeline import COMPONENT_FIELDS, ComponentSpec, DataSpec, PipelineSpec, Provenance
from diffkit.spec.signature import (
    Signature,
    Unsaveable,
    explained,
    reference_of,
    signature_of,
    validated,
)

_DEFAULT_DATA = DataSpec(shape=(3, 32, 32), range=(-1.0, 1.0))
_CREATED = (
    "schedule",
    "process",
    "parameterization",
    "times",
    "spacing",
    "loss",
    "sampler",
    "model",
)
"""In this order: what others are supplied with first, what is large last."""


class Assembler:
    """Turns one raw spec into components, collecting what is wrong on the way."""

    def __init__(self, raw: PipelineSpec | Mapping[str, Any] | str | Path, host: Host) -> None:
        self.host = self._host = host
        self.problems: list[str] = []
        self.unsaveable: list[str] = []
        self.instances: dict[str, Component] = {}
        self._classes: dict[str, type[Component]] = {}
        self._signatures: dict[str, Signature] = {}
        self._configs: dict[str, BaseModel] = {}
        self._facts: dict[str, Any] = {}
        host.load_hooks()
        self.spec = self._parsed(self._without_instances(_as_mapping(raw)))

    def assemble(self) -> Parts:
        """The parts. Raises SpecError with every problem; the model is created last."""
        for field in COMPONENT_FIELDS:
            self._check(field)
        data = self._data()
        self._create_cheap(data)
        if self.problems:
            raise SpecError(self.problems)
        assert self.spec is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(self.spec.seed, "weights"))
            self._create("model", data)
        if self.problems:
            raise SpecError(self.problems)
        made = {name: self.instances[name] for name in _CREATED}
        conditions = tuple(self._facts.get("model.conditions", ()))
        return Parts(shape=data.shape, data_range=data.range, conditions=conditions, **made)  # type: ignore[arg-type]

    def full_spec(self) -> PipelineSpec:
        """The spec with every default and the provenance written out; after `assemble`."""
        assert self.spec is not None
        changes: dict[str, Any] = {"data": self._data(), "provenance": {}}
        for field in COMPONENT_FIELDS:
            reference = getattr(self.spec, field)
            if reference is None:
                continue
            entry = None if field in self._given else self._host.find(field, reference.id)
            if entry is not None:
                config = self._configs[field].model_dump(mode="json", exclude=self._left_out(field))
                changes[field] = ComponentSpec(id=entry.id, config=config)
        spec = self.spec.model_copy(update=changes)
        return spec.model_copy(update={"provenance": self._provenance(spec)})

    def create(self, field: str) -> Component:
        """Create one of the components that are made on demand: the dataset, the metric."""
        data = self._data()
        for source in self._signatures[field].supplied.values() if field in self._signatures else ():
            if source in COMPONENT_FIELDS and source not in self.instances:
                self._create(source, data)
        self._create(field, data)
        if self.problems:
            raise SpecError(self.problems)
        return self.instances[field]

    # -- reading -------------------------------------------------------------------------------

    def _without_instances(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        plain = dict(raw)
        self._given = {k: v for k, v in raw.items() if isinstance(v, Component)}
        for field, component in self._given.items():
            if field not in COMPONENT_FIELDS or component.kind != field:
                self.problems.append(f"{field}: a {component.kind} instance does not belong here")
                del plain[field]
                continue
            self.instances[field] = component
            plain[field] = self._reference(field, component)
        return plain

    def _reference(self, field: str, component: Component) -> dict[str, Any]:
        try:
            supplied = signature_of(type(component), self._host).supplied
            reference = reference_of(component, self._host, leave_out=supplied)
        except (Unsaveable, ComponentError) as error:
            self.unsaveable.append(f"{field}: {error}")
            return {"id": f"unregistered.{type(component).__name__}"}
        return reference.model_dump(mode="json")

    def _parsed(self, plain: dict[str, Any]) -> PipelineSpec | None:
        try:
            return PipelineSpec.model_validate_json(json.dumps(to_jsonable_python(plain)))
        except ValidationError as error:
            self.problems += explained(error, "", PipelineSpec.model_fields)
        except (ValueError, RecursionError) as error:
            self.problems.append(f"it is not JSON data: {error}")
        # Look at what can be looked at, so that the message is complete.
        self._plain = plain
        return None

    def _reference_to(self, field: str) -> ComponentSpec | None:
        if self.spec is not None:
            reference: ComponentSpec | None = getattr(self.spec, field)
            return reference
        try:
            return ComponentSpec.model_validate(self._plain[field])
        except (KeyError, ValidationError):
            return None

    # -- checking ------------------------------------------------------------------------------

    def _check(self, field: str) -> None:
        """Resolve and validate one component, without creating it."""
        if field in self._given:
            self._classes[field] = type(self._given[field])
            return
        reference = self._reference_to(field)
        if reference is None:
            return
        try:
            component = self._host.resolve(field, reference.id)
            signature = signature_of(component, self._host)
        except ComponentError as error:
            self.problems.append(f"{field}: {error}{self._how_to_get(reference.id)}")
            return
        self._classes[field], self._signatures[field] = component, signature
        config, problems = validated(signature, reference.config, field)
        self.problems += problems
        if config is not None:
            self._configs[field] = config
            self.problems += self._nested_problems(config, field)

    def _nested_problems(self, config: BaseModel, where: str) -> list[str]:
        problems: list[str] = []
        for path, reference in _references(config, where):
            try:
                component = self._host.resolve(str(reference.kind), reference.id)
                signature = signature_of(component, self._host)
            except ComponentError as error:
                problems.append(f"{path}: {error}{self._how_to_get(reference.id)}")
                continue
            nested, wrong = validated(signature, reference.config, path)
            problems += wrong
            if nested is not None:
                problems += self._nested_problems(nested, path)
        return problems

    def _how_to_get(self, full_id: str) -> str:
        source = self.spec.provenance.get(full_id) if self.spec is not None else None
        if source is None:
            return ""
        if source.sha256 is not None:
            return f". It came from the file {source.distribution}; name it as a plugin file"
        return (
            f". It came from {source.distribution} {source.version}: "
            f"pip install '{source.distribution}=={source.version}'"
        )

    def _data(self) -> DataSpec:
        if self.spec is not None and self.spec.data is not None:
            return self.spec.data
        dataset = self._classes.get("dataset")
        if dataset is None:
            return _DEFAULT_DATA
        if "dataset" in self.instances:
            given = self.instances["dataset"]
            return DataSpec(shape=tuple(given.shape), range=given.range)  # type: ignore[attr-defined]
        if "dataset" not in self._configs:
            return _DEFAULT_DATA
        if self._dataset_facts is None:
            try:
                facts = dataset.facts(self._configs["dataset"])
                self._dataset_facts = DataSpec(shape=tuple(facts["shape"]), range=facts.get("range"))
            except (DataError, ComponentError) as error:
                self.problems.append(f"dataset: {error}")
                self._dataset_facts = _DEFAULT_DATA
        return self._dataset_facts

    _dataset_facts: DataSpec | None = None
    _plain: dict[str, Any] = {}  # noqa: RUF012 - replaced, never written to

    def _create_cheap(self, data: DataSpec) -> None:
        """Create all but the model, then ask everyone what they think of the others."""
        self._facts = {"data.shape": data.shape, "data.range": data.range}
        self._create("schedule", data)
        schedule = self.instances.get("schedule")
        if schedule is None:
            return
        self._facts.update(schedule_facts(schedule))  # type: ignore[arg-type]
        configs = {field: self._config_for(field, data) for field in self._classes}
        for field, config in configs.items():
            if config is not None and field != "dataset":
                facts = self._classes[field].facts(config)
                self._facts.update({f"{field}.{name}": value for name, value in facts.items()})
        for field, config in configs.items():
            if config is not None:
                found = self._classes[field].requires(config, self._facts)
                self.problems += [f"{field}: {problem}" for problem in found]
        self.problems += misfits(self._classes, self._facts)
        self._check_shape(data)
        for field in _CREATED[1:-1]:
            self._create(field, data)

    def _check_shape(self, data: DataSpec) -> None:
        for field, config in self._configs.items():
            for name, source in self._signatures[field].supplied.items():
                given = getattr(config, name)
                if source == "data.shape" and given is not None and tuple(given) != data.shape:
                    self.problems.append(
                        f"{field}.{name} is {list(given)}, but the data's shape is "
                        f"{list(data.shape)}; leave it out and it is supplied"
                    )

    def _config_for(self, field: str, data: DataSpec) -> Any:
        if field in self._given:
            return SimpleNamespace(**arguments_of(self._given[field]))
        config = self._configs.get(field)
        if config is None:
            return None
        values = {name: getattr(config, name) for name in type(config).model_fields}
        for name, source in self._signatures[field].supplied.items():
            if values[name] is None and source == "data.shape":
                values[name] = data.shape
        return SimpleNamespace(**values)

    # -- creating ------------------------------------------------------------------------------

    def _create(self, field: str, data: DataSpec) -> None:
        if field in self.instances or field not in self._configs:
            return
        try:
            arguments = self._arguments(self._configs[field], self._signatures[field], data)
            self.instances[field] = self._classes[field](**arguments)
        except (ComponentError, DataError) as error:
            if not any(str(error) in problem for problem in self.problems):
                self.problems.append(f"{field}: {error}")

    def _arguments(
        self, config: BaseModel, signature: Signature, data: DataSpec
    ) -> dict[str, Any]:
        arguments = {}
        for name in type(config).model_fields:
            value = getattr(config, name)
            source = signature.supplied.get(name)
            if value is None and source is not None:
                value = self._supply(source, data)
            arguments[name] = self._made(value, data)
        return arguments

    def _supply(self, source: str, data: DataSpec) -> Any:
        if source == "data.shape":
            return data.shape
        if source not in self.instances:
            raise ComponentError(f"it needs a {source}, which the pipeline does not have")
        return self.instances[source]

    def _made(self, value: Any, data: DataSpec) -> Any:
        """The value with every reference in it replaced by the component it names."""
        if isinstance(value, ComponentSpec):
            component = self._host.resolve(str(value.kind), value.id)
            signature = signature_of(component, self._host)
            config, problems = validated(signature, value.config, value.id)
            if config is None:
                raise ComponentError("; ".join(problems))
            return component(**self._arguments(config, signature, data))
        if isinstance(value, list | tuple):
            return type(value)(self._made(item, data) for item in value)
        if isinstance(value, dict):
            return {key: self._made(item, data) for key, item in value.items()}
        return value

    # -- writing out ---------------------------------------------------------------------------

    def _left_out(self, field: str) -> set[str]:
        """Supplied arguments that were not given in the spec: they are written elsewhere in it."""
        config = self._configs[field]
        return {n for n in self._signatures[field].supplied if getattr(config, n) is None}

    def _provenance(self, spec: PipelineSpec) -> dict[str, Provenance]:
        found: dict[str, Provenance] = {}
        for field in COMPONENT_FIELDS:
            reference = getattr(spec, field)
            if reference is None or reference.id.startswith("unregistered."):
                continue
            found.update(self._sources(field, reference))
        return found

    def _sources(self, kind: str, reference: ComponentSpec) -> dict[str, Provenance]:
        entry = self._host.find(kind, reference.id)
        origin = entry.origin
        found = {entry.id: Provenance(**{f: getattr(origin, f) for f in Provenance.model_fields})}
        signature = signature_of(self._host.load(entry), self._host)
        config, _ = validated(signature, reference.config, entry.id)
        if config is not None:
            for _, nested in _references(config, entry.id):
                found.update(self._sources(str(nested.kind), nested))
        return found


def _as_mapping(raw: PipelineSpec | Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    if isinstance(raw, PipelineSpec):
        return raw.model_dump(mode="json")
    if isinstance(raw, Mapping):
        return raw
    if isinstance(raw, str | Path):
        return read_data(Path(raw))
    raise SpecError([f"a spec is a mapping, a PipelineSpec or a path, not {type(raw).__name__}"])


def _references(config: BaseModel, where: str) -> list[tuple[str, ComponentSpec]]:
    """Every component reference among the values of a configuration, with its path."""
    found: list[tuple[str, ComponentSpec]] = []

    def look(value: Any, path: str) -> None:
        if isinstance(value, ComponentSpec):
            found.append((path, value))
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                look(item, f"{path}[{index}]")
        elif isinstance(value, dict):
            for key, item in value.items():
                look(item, f"{path}.{key}")

    for name in type(config).model_fields:
        look(getattr(config, name), f"{where}.{name}")
    return found
