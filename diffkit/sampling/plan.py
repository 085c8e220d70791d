"""The plan of a sampling run: what is known before the first call of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffkit.assembly.build import SWAPPABLE, Assembly, swapped
from diffkit.assembly.conditions import SampleConditions, conditions_of
from diffkit.assembly.system import System
from diffkit.core.component import Component
from diffkit.core.denoiser import Denoiser
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.guidance import Guidance
from diffkit.core.model import Network
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler
from diffkit.core.spacing import Spacing
from diffkit.errors import SpecError
from diffkit.plugins.host import Host
from diffkit.sampling.denoisers import Denoisers, clipping_of
from diffkit.sampling.options import Choice, SamplingOptions
from diffkit.sampling.run import SamplingRun

_CONTINUOUS_STEPS = 1000


def plan_sampling(
    assembly: Assembly,
    host: Host,
    system: System,
    num: int,
    choices: SamplingOptions,
    network: Network,
) -> SamplingRun:
    """A trajectory of `system`, with the choices for its own parts, and `network` running its
    model.

    Raises:
        SpecError: a choice is wrong, or does not go with the rest.
        ComponentError: the trajectory needs a noise level that the network never saw.
    """
    settings = assembly.blueprint.settings
    assert settings is not None
    chosen, denoisers, conditions = plan_denoisers(assembly, host, system, choices, network)
    sampler, spacing, process = chosen["sampler"], chosen["spacing"], denoisers.process
    assert isinstance(sampler, Sampler)
    assert isinstance(spacing, Spacing)
    times = _times(spacing, process, choices.get("steps") or settings.steps)
    with torch.no_grad():
        first = SampleConditions(
            *({n: v[:1].to(system.device) for n, v in told.items()} for told in conditions)
        )
        denoisers.make({}, first, {}).check_times(sampler.query_times(times, process))
        table = denoisers.preconditioning_table(times)
    return SamplingRun(
        num=num,
        denoiser=partial(denoisers.make, table),
        sampler=sampler,
        process=process,
        times=times,
        shape=system.parts.shape,
        sample_shape=system.parts.sample_shape,
        latents=system.parts.latents,
        device=system.device,
        condition=conditions,
        inputs=choices.get("inputs") or {},
        tokens=system.parts.latents is None and system.parts.dtype == "int64",
    )


def plan_denoisers(
    assembly: Assembly,
    host: Host,
    system: System,
    choices: SamplingOptions,
    network: Network,
    unguided: bool = False,
) -> tuple[Mapping[str, Component | None], Denoisers, SampleConditions]:
    """The components that are chosen, what makes denoisers with them, and the conditions.

    Raises SpecError: a choice is wrong, or does not go with the rest.
    """
    settings = assembly.blueprint.settings
    assert settings is not None
    asked: Mapping[str, Any] = choices
    given = {kind: asked[kind] for kind in SWAPPABLE if asked.get(kind) is not None}
    chosen = swapped(assembly, system.parts, given, host)
    process = chosen["process"]
    assert isinstance(process, ForwardProcess)
    given_conditions = choices.get("condition") or {}
    guide = None if unguided else chosen["guidance"]
    guidance = _guidance_for(guide, given, bool(given_conditions))
    conditions = conditions_of(given_conditions, system.parts, guidance, process)
    clipping = clipping_of(asked.get("clip"), settings.clip, system, process)
    return chosen, Denoisers(system, process, network, guidance, clipping), conditions


def plan_alone(
    denoiser: Denoiser,
    sampler: Sampler,
    spacing: Spacing,
    *,
    shape: tuple[int, ...],
    num: int,
    steps: int,
    inputs: Mapping[str, Tensor],
    device: torch.device,
) -> SamplingRun:
    """A trajectory of a denoiser that no pipeline has.

    Raises:
        SpecError: the sampler is of another class of process, or needs other inputs.
        ComponentError: the trajectory needs a noise level that the network never saw.
    """
    process = denoiser.process
    if not isinstance(process, sampler.process_class):
        raise SpecError(
            [
                f"sampler: {type(sampler).__name__} needs a process of the class "
                f"{sampler.process_class.__name__}, and {type(process).__name__} is not one"
            ]
        )
    times = _times(spacing, process, steps)
    with torch.no_grad():
        denoiser.check_times(sampler.query_times(times, process))
        if isinstance(denoiser, GaussianDenoiser):
            denoiser = denoiser.at_times(times)
    return SamplingRun(
        num=num,
        denoiser=lambda _, rows: denoiser.start(rows),
        sampler=sampler,
        process=process,
        times=times,
        shape=shape,
        sample_shape=shape,
        device=device,
        inputs=inputs,
    )


def _times(spacing: Spacing, process: ForwardProcess, steps: int | None) -> Sequence[float]:
    """The times of the trajectory; those of a Gaussian process with all their coefficients."""
    schedule = process.schedule
    times = spacing.times(steps or schedule.steps or _CONTINUOUS_STEPS, schedule)
    if not isinstance(process, GaussianProcess):
        return times
    with torch.no_grad():
        return process.levels(times)


def _guidance_for(
    chosen: Component | None, given: Mapping[str, Choice], conditional: bool
) -> Guidance | None:
    """The guidance of a trajectory. Without a condition the spec's own is
    dropped, as it has no effect.

    Raises SpecError where one was asked for.
    """
    if chosen is None:
        return None
    assert isinstance(chosen, Guidance)
    if conditional or not (chosen.needs_null or chosen.takes):
        return chosen
    if "guidance" in given:
        raise SpecError(
            [
                f"guidance: {type(chosen).__name__} leads towards a condition, and none is given; "
                "give condition (--prompt, --label)"
            ]
        )
    return None
