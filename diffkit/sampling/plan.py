"""The plan of a sampling run: what is known before the first call of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from diffkit.assembly.build import SWAPPABLE, Assembly, swapped
from diffkit.assembly.conditions import SampleConditions, conditions_of
from diffkit.assembly.system import System
from diffkit.core.component import Component
from diffkit.core.guidance import Guidance
from diffkit.core.model import Network
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler
from diffkit.core.spacing import Spacing
from diffkit.errors import SpecError
from diffkit.plugins.host import Host
from diffkit.sampling.denoisers import Denoisers, range_to_clip_to
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
    asked: Mapping[str, Any] = choices
    given = {kind: asked[kind] for kind in SWAPPABLE if asked.get(kind) is not None}
    chosen = swapped(assembly, system.parts, given, host)
    sampler, spacing, process = chosen["sampler"], chosen["spacing"], chosen["process"]
    assert isinstance(sampler, Sampler)
    assert isinstance(spacing, Spacing)
    assert isinstance(process, ForwardProcess)
    times = _times(spacing, process, choices.get("steps") or settings.steps)
    given_conditions = choices.get("condition") or {}
    guidance = _guidance_for(chosen["guidance"], given, bool(given_conditions))
    conditions = conditions_of(given_conditions, system.parts, guidance, process)
    clip_to = range_to_clip_to(choices.get("clip"), settings.clip, system, process)
    denoisers = Denoisers(system, process, network, guidance, clip_to)
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
