"""Making a component from a checked configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from diffkit.config.signature import Signature, signature_of, validated
from diffkit.config.spec import ComponentSpec
from diffkit.core.component import Component
from diffkit.errors import ComponentError
from diffkit.plugins.host import Host

Supply = Callable[[str], Any]
"""Gives what the pipeline supplies, by its source: a kind, or `data.shape`."""


def created(
    component: type[Component],
    config: BaseModel,
    signature: Signature,
    supply: Supply,
    host: Host,
) -> Component:
    """The component, with everything that its configuration refers to made before it.

    Raises:
        ComponentError: a nested configuration is wrong, or the component refuses its arguments.
    """
    arguments = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if value is None and name in signature.supplied:
            value = supply(signature.supplied[name])
        arguments[name] = _made(value, supply, host)
    return component(**arguments)


def _made(value: Any, supply: Supply, host: Host) -> Any:
    """The value with every reference in it replaced by the component it names."""
    if isinstance(value, ComponentSpec):
        component = host.resolve(str(value.kind), value.id)
        signature = signature_of(component, host)
        config, problems = validated(signature, value.config, value.id)
        if config is None:
            raise ComponentError("; ".join(problems))
        return created(component, config, signature, supply, host)
    if isinstance(value, list | tuple):
        return type(value)(_made(item, supply, host) for item in value)
    if isinstance(value, dict):
        return {key: _made(item, supply, host) for key, item in value.items()}
    return value
