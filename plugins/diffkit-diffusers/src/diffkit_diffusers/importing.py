"""From a diffusers pipeline folder to a diffkit pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffkit
from diffkit.arguments import path
from diffkit.core.weights import fit_tensors, load_state, state_of
from diffkit.errors import CheckpointError, ComponentError
from diffkit.pipeline import Pipeline
from diffkit.plugins.host import Host, default_host

from diffkit_diffusers import architecture, scheduler_fields
from diffkit_diffusers.folder import Folder, read_folder, read_weights, with_defaults
from diffkit_diffusers.unet import takes
from diffkit_diffusers.weights import EMBEDDING, from_diffusers, shifted, swapped_halves

_PIPELINES = ("DDPMPipeline", "DDIMPipeline")
_SCHEDULERS = ("DDPMScheduler", "DDIMScheduler")
_DDIM = "samplers.ddim"


def import_pipeline(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    sampler: str | Mapping[str, Any] | None = None,
    host: Host | None = None,
) -> Pipeline:
    """The pipeline in a folder of diffusers, with diffkit's own components and equal outputs.

    The network becomes the bundled `unet`: its weights are renamed, and diffusers' index, which
    is k - 1, is folded into the weights behind the noise embedding.

    Args:
        folder: of a `DDPMPipeline` or `DDIMPipeline`, as `save_pretrained` writes it.
        out: where to save the run; None does not.
        sampler: instead of the scheduler's.
        host: where components are found; default what is installed.

    Raises:
        ComponentError: the folder asks for what diffkit cannot express; names all of it.
        CheckpointError: a file is missing, is not whole, or is a pickle; or `out` is taken.
        SpecError: `sampler` is wrong.
    """
    found = read_folder(path(folder, "folder"))
    out = None if out is None else path(out, "out")
    host = default_host() if host is None else host
    ddim = _is_ddim(found)
    unet, scheduler = _configs(found, ddim)
    _stop_if(
        found, architecture.import_problems(unet), scheduler_fields.import_problems(scheduler, ddim)
    )
    network = architecture.imported(unet)
    has_samplers = any(entry.id == _DDIM for entry in host.components("sampler"))
    fields = scheduler_fields.imported(scheduler, ddim, has_samplers)
    pipeline = diffkit.build(_spec(network, fields, sampler), host=host)
    _load(pipeline, found, network)
    if out is not None:
        pipeline.save(out)
    return pipeline


def _stop_if(found: Folder, of_network: list[str], of_scheduler: list[str]) -> None:
    problems = [
        *(f"unet/config.json: {problem}" for problem in of_network),
        *(f"scheduler/scheduler_config.json: {problem}" for problem in of_scheduler),
    ]
    if problems:
        as_it_is = bool(of_network) and takes(found.unet)
        hint = ". The model 'diffusers.unet-2d' takes the network as it is" if as_it_is else ""
        raise ComponentError(
            f"{found.path} cannot be imported with equal outputs. Not supported: "
            f"{'; '.join(problems)}{hint}"
        )


def _is_ddim(found: Folder) -> bool:
    """Whether the folder samples like DDIM: either of its two names decides so in diffusers."""
    pipeline = found.index.get("_class_name")
    if pipeline not in _PIPELINES:
        raise ComponentError(
            f"{found.path}/model_index.json: _class_name = {pipeline!r} is not supported; "
            f"it must be {' or '.join(_PIPELINES)}"
        )
    for name, allowed in (("unet", ("UNet2DModel",)), ("scheduler", _SCHEDULERS)):
        part = found.index.get(name)
        if not isinstance(part, list) or len(part) != 2 or part[1] not in allowed:
            raise ComponentError(
                f"{found.path}/model_index.json: {name} = {part!r} is not supported; "
                f"it must be {' or '.join(allowed)} of diffusers"
            )
    for config, allowed in ((found.unet, ("UNet2DModel",)), (found.scheduler, _SCHEDULERS)):
        # Folders of early versions do not repeat the class there.
        if config.get("_class_name", allowed[0]) not in allowed:
            raise ComponentError(
                f"{found.path}: _class_name = {config['_class_name']!r} is not supported; "
                f"it must be {' or '.join(allowed)}"
            )
    return pipeline == "DDIMPipeline" or "DDIMScheduler" in found.index["scheduler"]


def _configs(found: Folder, ddim: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both configurations with diffusers' defaults, which a file need not hold."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

    scheduler = with_defaults(found.scheduler, DDIMScheduler if ddim else DDPMScheduler)
    if scheduler.get("predict_epsilon") is True:  # What early versions wrote for "epsilon".
        del scheduler["predict_epsilon"]
    return with_defaults(found.unet, UNet2DModel), scheduler


def _spec(
    network: architecture.Imported,
    fields: Mapping[str, Any],
    sampler: str | Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "schedule": fields["schedule"],
        "process": "diffkit.variance-preserving",
        "model": {"id": "diffkit.unet", "config": dict(network.config)},
        "loss": "diffkit.simple",
        "sampler": fields["sampler"] if sampler is None else sampler,
        "parameterization": fields["parameterization"],
        "spacing": fields["spacing"],
        "steps": fields["steps"],
        "clip": fields["clip"],
        "data": {"shape": list(network.shape), "range": list(fields["data_range"])},
    }


def _load(pipeline: Pipeline, found: Folder, network: architecture.Imported) -> None:
    """Give the pipeline's network the folder's weights."""
    model = pipeline.parts.model
    wanted = state_of(model)
    try:
        weights = from_diffusers(read_weights(found.path / "unet"), wanted, network.layout)
    except CheckpointError as error:
        raise CheckpointError(f"{found.path}/unet: {error}") from error
    if network.cosines_first:
        weights[EMBEDDING] = swapped_halves(weights[EMBEDDING])
    weights[EMBEDDING] = shifted(weights[EMBEDDING], 1)
    load_state(model, fit_tensors(weights, wanted, found.path / "unet"))
