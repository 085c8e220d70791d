"""Reading a raw spec: instances are set aside, the rest is validated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from diffkit.arguments import path
from diffkit.assembly.provenance import UNREGISTERED
from diffkit.config.files import read_data
from diffkit.config.signature import alike, as_json, explained, reference_of, signature_of
from diffkit.config.spec import COMPONENT_FIELDS, ComponentSpec, PipelineSpec
from diffkit.core.component import Component, arguments_of
from diffkit.core.data import FACTS
from diffkit.errors import ComponentError, SpecError
from diffkit.plugins.host import Host

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
            return ComponentSpec.model_validate_json(as_json(self._plain[field]))
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
            plain[field] = self._described(field, value, raw, host)
        return plain

    def _described(
        self, field: str, component: Component, raw: Mapping[str, Any], host: Host
    ) -> dict[str, Any]:
        """Its reference, without what the pipeline will supply again."""
        try:
            supplied = signature_of(type(component), host).supplied
            held = arguments_of(component)
            elsewhere = {
                name
                for name, source in supplied.items()
                # Facts of an encoder may not be there to supply it the next time.
                if source not in FACTS and not _own(held.get(name), raw.get(source), host)
            }
            described = reference_of(component, host, leave_out=elsewhere)
        except ComponentError as error:
            self.unsaveable.append(f"{field}: {error}")
            return {"id": f"{UNREGISTERED}{type(component).__name__}"}
        return described.model_dump(mode="json")

    def _validated(self) -> PipelineSpec | None:
        try:
            return PipelineSpec.model_validate_json(as_json(self._plain))
        except ValidationError as error:
            self.problems += explained(error, "", PipelineSpec.model_fields)
        except (ValueError, RecursionError) as error:
            self.problems.append(f"it cannot be read: {error}")
        return None


def _own(held: Any, supplied: Any, host: Host) -> bool:
    """Whether a component holds another one than the one that the pipeline supplies it with.

    Of one that the pipeline has yet to make, that is seen when it is made.
    """
    if not isinstance(held, Component):
        return False
    return supplied is None or (isinstance(supplied, Component) and not alike(held, supplied, host))


def _as_mapping(raw: RawSpec) -> Mapping[str, Any]:
    if isinstance(raw, PipelineSpec):
        return raw.model_dump(mode="json")
    if isinstance(raw, Mapping):
        return raw
    if isinstance(raw, str | os.PathLike):
        return read_data(path(raw, "the spec"))
    raise SpecError([f"a spec is a mapping, a PipelineSpec or a path, not {type(raw).__name__}"])
