"""Reading a raw spec: instances are set aside, the rest is validated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from diffkit.assembly.written import UNREGISTERED
from diffkit.core.component import Component
from diffkit.core.data import FACTS
from diffkit.errors import ComponentError, SpecError
from diffkit.plugins.host import Host
from diffkit.spec.files import read_data
from diffkit.spec.pipeline import COMPONENT_FIELDS, ComponentSpec, PipelineSpec
from diffkit.spec.signature import explained, reference_of, signature_of

RawSpec = PipelineSpec | Mapping[str, Any] | str | Path


class Reading:
    """A raw spec, read as far as it can be.

    `spec` is None where its structure is wrong; `reference` then still finds what is readable,
    so that everything wrong is reported at once.
    """

    def __init__(self, raw: RawSpec, host: Host) -> None:
        self.problems: list[str] = []
        self.unsaveable: list[str] = []
        """Why the spec cannot be written to a file, where it cannot."""
        self.given: dict[str, Component] = {}
        """The components that were passed as instances."""
        self._plain = self._set_aside(_as_mapping(raw), host)
        self.spec = self._validated()

    def reference(self, field: str) -> ComponentSpec | None:
        """The component named in a field, if one readably is."""
        if self.spec is not None:
            named: ComponentSpec | None = getattr(self.spec, field)
            return named
        try:
            return ComponentSpec.model_validate_json(_json(self._plain[field]))
        except (KeyError, ValueError, RecursionError):
            return None

    def _set_aside(self, raw: Mapping[str, Any], host: Host) -> dict[str, Any]:
        plain = dict(raw)
        for field, value in raw.items():
            if not isinstance(value, Component):
                continue
            if field not in COMPONENT_FIELDS or value.kind != field:
                self.problems.append(f"{field}: an instance of a {value.kind} does not belong here")
                del plain[field]
                continue
            self.given[field] = value
            plain[field] = self._described(field, value, host)
        return plain

    def _described(self, field: str, component: Component, host: Host) -> dict[str, Any]:
        try:
            supplied = signature_of(type(component), host).supplied
            # Facts of an encoder may not be there to supply it the next time.
            elsewhere = {name for name, source in supplied.items() if source not in FACTS}
            described = reference_of(component, host, leave_out=elsewhere)
        except ComponentError as error:
            self.unsaveable.append(f"{field}: {error}")
            return {"id": f"{UNREGISTERED}{type(component).__name__}"}
        return described.model_dump(mode="json")

    def _validated(self) -> PipelineSpec | None:
        try:
            return PipelineSpec.model_validate_json(_json(self._plain))
        except ValidationError as error:
            self.problems += explained(error, "", PipelineSpec.model_fields)
        except (ValueError, RecursionError) as error:
            self.problems.append(f"it is not JSON data: {error}")
        return None


def _json(data: Any) -> str:
    try:
        return json.dumps(to_jsonable_python(data))
    except PydanticSerializationError as error:
        raise ValueError(str(error)) from error


def _as_mapping(raw: RawSpec) -> Mapping[str, Any]:
    if isinstance(raw, PipelineSpec):
        return raw.model_dump(mode="json")
    if isinstance(raw, Mapping):
        return raw
    if isinstance(raw, str | Path):
        return read_data(Path(raw))
    raise SpecError([f"a spec is a mapping, a PipelineSpec or a path, not {type(raw).__name__}"])
