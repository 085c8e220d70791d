"""Pipelines from specs, and from the directories that they are saved in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import torch
from pydantic import ValidationError
from torch import Tensor

from diffkit.arguments import instance, one_of, path
from diffkit.assembly.blueprint import raise_if
from diffkit.assembly.build import assemble
from diffkit.assembly.create import component_of
from diffkit.assembly.read import read
from diffkit.assembly.read_choice import read_choice
from diffkit.config.signature import as_json, explained
from diffkit.config.spec import ComponentSpec, PipelineSpec
from diffkit.core.clipping import ClippedDenoiser
from diffkit.core.component import Component
from diffkit.core.data import is_fact
from diffkit.core.denoiser import DataRange, Denoiser
from diffkit.core.encoder import Encoder
from diffkit.core.loss import Loss
from diffkit.core.model import EpsilonModel
from diffkit.core.sampler import Sampler
from diffkit.core.spacing import Spacing
from diffkit.core.weights import Nonfinite
from diffkit.distributed.world import launched_rank
from diffkit.errors import CheckpointError, ComponentError, SpecError
from diffkit.helpers.files import read_json
from diffkit.pipeline import Pipeline
from diffkit.pipeline_arguments import (
    checked_checkpoint,
    checked_device,
    checked_num,
    checked_seed,
    checked_steps,
)
from diffkit.plugins.host import Host, default_host
from diffkit.sampling.plan import plan_alone
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
    model: EpsilonModel | None = None,
    encoder: Encoder | None = None,
    loss: Loss | None = None,
    average: str | None = None,
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
        model: the network, where it was made in code, as `diffkit.wrap` does: the weights of the
            run are put into it.
        encoder: likewise.
        loss: likewise.
        average: what samples are drawn with, by the name of the average; `latest` is the weights
            themselves. Default the first average, where there is one.

    Raises:
        SpecError: a component is missing (names its distribution and version) or misconfigured, or
            has to be given; or one that is given is not the run's.
        CheckpointError: a file is missing, truncated, or does not fit.
    """
    directory = path(directory, "directory")
    host, checkpoint = _host(host), checked_checkpoint(checkpoint)
    device = None if device is None else checked_device(device)
    nonfinite = one_of(nonfinite, "nonfinite", get_args(Nonfinite))
    parts: dict[str, Component | None] = {"model": model, "encoder": encoder, "loss": loss}
    given = {kind: part for kind, part in parts.items() if part is not None}
    tried: set[Path] = set()
    while True:
        chosen = run_directory.chosen_checkpoint(directory, checkpoint)
        try:
            spec = read_json(chosen / run_directory.SPEC)
            pipeline = build({**spec, **given}, host=host, device=device)
            _check_the_same(pipeline, spec, given, chosen)
            pipeline.restore(chosen, nonfinite=nonfinite, average=average)
        except CheckpointError:
            # Another process may have written a newer one meanwhile, and deleted this.
            if os.path.lexists(chosen) or chosen in tried or not isinstance(checkpoint, str):
                raise
            tried.add(chosen)
        else:
            _compare_specs(directory, chosen, spec)
            return pipeline


def _check_the_same(
    pipeline: Pipeline, spec: Mapping[str, Any], given: Mapping[str, Component], where: Path
) -> None:
    """Raise SpecError where a component that was given is described otherwise than the run's."""
    built = pipeline.spec.model_dump(mode="json")
    problems = [
        f"{kind}: the one in {where} is {spec.get(kind)}, and what is given is {built[kind]}; make "
        "it as it was made for the run"
        for kind in given
        if built[kind] != spec.get(kind)
    ]
    if problems:
        raise SpecError(problems)


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


def sample(
    denoiser: Denoiser,
    *,
    sampler: Sampler,
    shape: Sequence[int],
    num: int,
    steps: int,
    seed: int = 0,
    spacing: Spacing | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    clip: DataRange | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Samples of a denoiser without a pipeline, `[num, *shape]`, on the host, drawn together.

        process = VariancePreserving(schedule=Cosine())
        denoiser = GaussianDenoiser(net, Epsilon(), process)
        diffkit.sample(denoiser, sampler=DDIM(), shape=(3, 32, 32), num=16, steps=50)

    Sample i depends on the seed and on i alone, as those of `Pipeline.sample`. A denoiser that
    holds conditions has a row of them for each sample.

    Args:
        denoiser: the network as it is sampled with, guided where that is wanted.
        sampler: an instance.
        shape: of one sample.
        num: how many.
        steps: of the trajectory.
        seed: of the noise.
        spacing: of the times; default `trailing`.
        inputs: what the sampler asks for beside noise, by name, one row a sample or one for all.
        clip: the range that the predicted x_0 is clipped to in each step; None: it is not.
        device: where the network is.

    Raises:
        SpecError: an argument is wrong, or they do not go together.
        ComponentError: the trajectory needs a noise level that the network never saw.
    """
    instance(denoiser, "denoiser", Denoiser, "a diffkit.core.Denoiser, such as GaussianDenoiser")
    instance(sampler, "sampler", Sampler, "an instance of a sampler")
    instance(shape, "shape", Sequence, "the shape of one sample")
    if spacing is None:
        spacing = cast(Spacing, make("spacing", PipelineSpec.model_fields["spacing"].default.id))
    instance(spacing, "spacing", Spacing, "an instance of a spacing")
    run = plan_alone(
        denoiser if clip is None else ClippedDenoiser(denoiser, clip),
        sampler,
        spacing,
        shape=tuple(shape),
        num=checked_num(num),
        steps=checked_steps(steps),
        inputs=inputs or {},
        device=checked_device(device),
    )
    *_, last = run.states(checked_seed(seed), range(run.num))
    return last.x.cpu()


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
