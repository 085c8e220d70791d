"""Combinations that cannot work, found before any compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from diffkit.core.component import Component, Facts
from diffkit.core.loss import Loss
from diffkit.core.process import ForwardProcess
from diffkit.core.sampler import Sampler
from diffkit.core.schedule import NoiseSchedule


def schedule_facts(schedule: NoiseSchedule) -> Facts:
    """What every schedule offers: `schedule.steps`, `.zero_terminal_snr`, `.t_min`."""
    return {
        "schedule.steps": schedule.steps,
        "schedule.zero_terminal_snr": bool(torch.isneginf(schedule.log_snr(1.0))),
        "schedule.t_min": schedule.t_min,
    }


def misfits(classes: Mapping[str, type[Component]], facts: Facts) -> Iterable[str]:
    """The problems between components that no single one of them can see."""
    process = classes.get("process")
    if process is not None:
        for kind in ("loss", "sampler"):
            yield from _wrong_process(kind, classes.get(kind), process)
    grid, asked = facts.get("model.steps"), facts.get("schedule.steps")
    if grid is not None and grid != asked:
        here = "is continuous" if asked is None else f"has {asked} steps"
        yield (
            f"model: it can be asked only at multiples of 1/{grid}, and the schedule {here}; "
            "give both the same number of steps"
        )


def _wrong_process(
    kind: str, component: type[Component] | None, process: type[Component]
) -> Iterable[str]:
    wanted = ForwardProcess
    if component is not None and issubclass(component, Loss | Sampler):
        wanted = component.process_class
    if not issubclass(process, wanted):
        yield (
            f"{kind}: {component.__name__ if component else kind} needs a process of the class "
            f"{wanted.__name__}, and {process.__name__} is not one"
        )
