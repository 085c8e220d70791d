"""From a diffkit pipeline to a diffusers pipeline folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import diffkit
from diffkit.arguments import path
from diffkit.errors import ComponentError
from diffkit.pipeline import Pipeline

from diffkit_diffusers import architecture, scheduler_fields
from diffkit_diffusers.folder import Folder, header, write_folder
from diffkit_diffusers.weights import EMBEDDING, shifted, to_diffusers

_SAMPLERS = {"diffkit.ddpm": False, "samplers.ddim": True}


def export_pipeline(
    run: Pipeline | str | Path,
    folder: str | Path,
    *,
    scheduler: Literal["ddpm", "ddim"] | None = None,
) -> Path:
    """Write a pipeline as a folder that diffusers loads, with equal outputs; returns the folder.

    The weights are those that samples are drawn with: the moving average, where there is one.
    diffusers' network is asked at k - 1 where diffkit's is asked at k; the difference is folded
    into the weights behind the noise embedding.

    Args:
        run: a pipeline, or the directory of a run.
        folder: where to write; it must not hold anything.
        scheduler: which scheduler to write; None takes the one that samples like the sampler.
            For another sampler than its own, `ddpm` is written with `fixed_small`, and `ddim`
            without clipping. `ddim` is not written with the spacing `trailing`, on which diffusers
            misses its own times unless the number of steps divides T.

    Raises:
        ComponentError: diffusers cannot express the pipeline; names all that it cannot.
        CheckpointError: the run cannot be read, or the folder not written.
    """
    pipeline = run if isinstance(run, Pipeline) else diffkit.load(run)
    spec = pipeline.spec.model_dump(mode="json")
    ddim, own, spec["sampler"] = _written_sampler(spec["sampler"], scheduler)
    # A DDIM that is written for another sampler is one that diffusers samples alike.
    spec["clip"] = spec["clip"] and (own or not ddim)
    data_range, shape = pipeline.parts.data_range, pipeline.parts.shape
    if pipeline.parts.latents is not None:
        _stop_if(["autoencoder: the pipelines that are written have none, and would show latents"])
    _stop_if(scheduler_fields.export_problems(spec, data_range, ddim))
    system = pipeline.system if pipeline.average is None else pipeline.average
    weights = dict(system.parts.model.state_dict())
    config = spec["model"]["config"]
    layout = architecture.layout_of(config, weights)
    _stop_if(list(architecture.export_problems(config, shape, layout)))
    weights[EMBEDDING] = shifted(weights[EMBEDDING].cpu(), -1)
    written = Folder(
        path=path(folder, "folder"),
        index=_index(ddim),
        unet=architecture.exported(config, shape, layout),
        scheduler=scheduler_fields.exported(spec, data_range, ddim),
    )
    write_folder(written, to_diffusers(weights, layout))
    return written.path


def _written_sampler(
    sampler: Mapping[str, Any], scheduler: str | None
) -> tuple[bool, bool, Mapping[str, Any]]:
    """Whether to write DDIM, whether that is the run's sampler, and the one to sample like."""
    full_id = sampler["id"]
    if scheduler not in (None, "ddpm", "ddim"):
        raise ComponentError(f"scheduler is 'ddpm', 'ddim' or None, not {scheduler!r}")
    if scheduler is None and full_id not in _SAMPLERS:
        raise ComponentError(
            f"the sampler {full_id!r} has no counterpart among diffusers' pipelines "
            f"(those with one are {', '.join(_SAMPLERS)}); say which scheduler to write instead, "
            "'ddpm' or 'ddim'"
        )
    ddim = _SAMPLERS[full_id] if scheduler is None else scheduler == "ddim"
    if _SAMPLERS.get(full_id) is ddim:
        return ddim, True, sampler
    named = {key: sampler["config"][key] for key in ("scheduler",) if key in sampler["config"]}
    return ddim, False, {"id": full_id, "config": named if ddim else {}}


def _stop_if(problems: list[str]) -> None:
    if problems:
        raise ComponentError(
            "the pipeline cannot be exported with equal outputs. Not supported by diffusers: "
            + "; ".join(problems)
        )


def _index(ddim: bool) -> dict[str, Any]:
    kind = "DDIM" if ddim else "DDPM"
    return {
        **header(f"{kind}Pipeline"),
        "scheduler": ["diffusers", f"{kind}Scheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
