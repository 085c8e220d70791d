"""Pipelines from specs, and from the directories that they are saved in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError

from diffkit.arguments import instance, path
from diffkit.assembly.build import Assembler
from diffkit.assembly.creating import created
from diffkit.core.component import Component
from diffkit.errors import ComponentError, SpecError
from diffkit.pipeline import Pipeline
from diffkit.plugins.host import Host, default_host
from diffkit.run import artifacts
from diffkit.run.asked import checked_checkpoint, checked_device
from diffkit.run.processes import launched_rank
from diffkit.spec.pipeline import ComponentSpec, PipelineSpec
from diffkit.spec.signature import as_json, explained, signature_of, validated


def build(
    spec: PipelineSpec | Mapping[str, Any] | str | Path,
    *,
    host: Host | None = None,
    device: str | torch.device | None = None,
) -> Pipeline:
    """A pipeline from a spec: a mapping, a `PipelineSpec`, or a YAML, TOML or JSON file.

    In a mapping, a component instance can stand in place of its spec. Everything is checked
    before the model is created.

    Args:
        spec: what the pipeline is made of; five names are enough.
        host: where components are found; default what is installed.
        device: where the weights go; default the CPU, or the first CUDA device, or that of this
            process where a launcher started several.

    Raises:
        SpecError: with everything that is wrong.
    """
    chosen = _default_device() if device is None else checked_device(device)
    assembler = Assembler(spec, _host(host))
    return Pipeline(assembler, assembler.assemble()).to(chosen)


def load(
    directory: str | Path,
    *,
    host: Host | None = None,
    device: str | torch.device | None = None,
    checkpoint: Literal["last", "best"] | int = "last",
) -> Pipeline:
    """A pipeline from a directory that training or `Pipeline.save` wrote.

    Only registered components are created and only safetensors are read: nothing in a file can
    make code run.

    Args:
        directory: of the run.
        host: where components are found; default what is installed.
        device: where the weights go; default as for `build`.
        checkpoint: the last one, the one before which the mean loss was least, or the one after
            so many updates.

    Raises:
        SpecError: a component is missing (names its distribution and version) or misconfigured.
        CheckpointError: a file is missing, truncated, or does not fit.
    """
    directory = path(directory, "directory")
    host, checkpoint = _host(host), checked_checkpoint(checkpoint)
    device = None if device is None else checked_device(device)
    chosen = artifacts.chosen_checkpoint(directory, checkpoint)
    spec = artifacts.read_json(directory / artifacts.SPEC)
    return build(spec, host=host, device=device).restore(chosen)


def make(kind: str, choice: str | Mapping[str, Any], *, host: Host | None = None) -> Component:
    """One component on its own, such as a dataset, where there is no pipeline to supply it.

    Args:
        kind: of component.
        choice: its name, or its `{id, config}`.
        host: where components are found; default what is installed.

    Raises:
        SpecError: with everything that is wrong with its configuration.
        ComponentError: it is not there, or refuses what it is given.
        DataError: its data cannot be read.
    """
    host = _host(host)
    instance(kind, "kind", str, "the name of a kind of component")
    instance(choice, "choice", str | Mapping, "a name, or {id, config}")
    try:
        reference = ComponentSpec.model_validate_json(as_json(choice))
    except ValidationError as error:
        raise SpecError(explained(error, kind)) from error
    except (ValueError, RecursionError) as error:
        raise SpecError([f"{kind}: {error}"]) from error
    component = host.resolve(kind, reference.id)
    signature = signature_of(component, host)
    config, problems = validated(signature, reference.config, kind)
    if config is None:
        raise SpecError(problems)

    def supply(source: str) -> Any:
        raise ComponentError(f"{kind}: {reference.id} needs {source}, and stands alone; give it")

    return created(component, config, signature, supply, host)


def _host(host: Host | None) -> Host:
    if host is None:
        return default_host()
    instance(host, "host", Host, "a diffkit.Host, or None")
    return host


def _default_device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", launched_rank() or 0)
