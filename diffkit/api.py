"""Pipelines from specs, and from the directories that they are saved in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError

from diffkit.arguments import instance, one_of, path
from diffkit.assembly.blueprint import raise_if
from diffkit.assembly.build import assemble
from diffkit.assembly.create import component_of
from diffkit.assembly.read import read, read_choice
from diffkit.config.signature import as_json, explained
from diffkit.config.spec import ComponentSpec, PipelineSpec
from diffkit.core.component import Component
from diffkit.core.data import is_fact
from diffkit.core.weights import Nonfinite
from diffkit.distributed.world import launched_rank
from diffkit.errors import CheckpointError, ComponentError, SpecError
from diffkit.helpers.files import read_json
from diffkit.pipeline import Pipeline
from diffkit.pipeline_arguments import checked_checkpoint, checked_device
from diffkit.plugins.host import Host, default_host
from diffkit.storage import run_directory


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
    host = _host(host)
    return Pipeline(assemble(read(spec, host)), host).to(chosen)


def load(
    directory: str | Path,
    *,
    host: Host | None = None,
    device: str | torch.device | None = None,
    checkpoint: run_directory.Which = "last",
    nonfinite: Nonfinite = "refuse",
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
        nonfinite: what is done about weights that are NaN or infinite; "allow" loads them, to be
            looked at.

    Raises:
        SpecError: a component is missing (names its distribution and version) or misconfigured.
        CheckpointError: a file is missing, truncated, or does not fit.
    """
    directory = path(directory, "directory")
    host, checkpoint = _host(host), checked_checkpoint(checkpoint)
    device = None if device is None else checked_device(device)
    nonfinite = one_of(nonfinite, "nonfinite", get_args(Nonfinite))
    tried: set[Path] = set()
    while True:
        chosen = run_directory.chosen_checkpoint(directory, checkpoint)
        try:
            spec = read_json(chosen / run_directory.SPEC)
            pipeline = build(spec, host=host, device=device).restore(chosen, nonfinite=nonfinite)
        except CheckpointError:
            # Another process may have written a newer one meanwhile, and deleted this.
            if os.path.lexists(chosen) or chosen in tried or not isinstance(checkpoint, str):
                raise
            tried.add(chosen)
        else:
            _compare_specs(directory, chosen, spec)
            return pipeline


def _compare_specs(directory: Path, chosen: Path, spec: Mapping[str, Any]) -> None:
    """Say so where somebody changed the run's own spec, which is not what is loaded."""
    try:
        at_top = read_json(directory / run_directory.SPEC)
    except CheckpointError:
        return
    fields = [f for f in spec if f not in ("training", "provenance") and at_top.get(f) != spec[f]]
    if fields and chosen == run_directory.latest_checkpoint(directory):
        warnings.warn(
            f"{directory / run_directory.SPEC} and the spec that the weights in {chosen.name} were "
            f"made with differ in {', '.join(fields)}; the weights' own is used: "
            f"change {chosen / run_directory.SPEC} where that is not wanted",
            stacklevel=3,
        )


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
    host.resolve(kind, reference.id)
    found, problems = read_choice(kind, reference, host, {})
    raise_if(problems)
    assert found is not None

    def supply(source: str) -> Any:
        if is_fact(source):
            return None
        raise ComponentError(f"{kind}: {reference.id} needs {source}, and stands alone; give it")

    return component_of(found, supply)


def _host(host: Host | None) -> Host:
    if host is None:
        return default_host()
    instance(host, "host", Host, "a diffkit.Host, or None")
    return host


def _default_device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", launched_rank() or 0)
