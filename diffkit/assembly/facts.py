"""What the choices of a blueprint say of themselves, before anything large is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch

from diffkit.assembly.blueprint import Blueprint, Choice, Problem
from diffkit.assembly.choice_facts import (
    SHAPE,
    asked,
    fact_supplied,
    filled_in,
    of_data,
    own_facts,
)
from diffkit.assembly.condition_flow import ADDED
from diffkit.assembly.create import create_one
from diffkit.assembly.data_facts import data_of, dataset_facts, latents_of
from diffkit.config.spec import DataSpec
from diffkit.core.component import Config, Facts
from diffkit.core.data import is_fact
from diffkit.core.metric import SampleMetric
from diffkit.core.noise import mix
from diffkit.core.random_state import seeded
from diffkit.core.schedule import NoiseSchedule
from diffkit.errors import ComponentError

LATENTS = "data.latents"
ENCODER_FIRST = (
    "autoencoder",
    "schedule",
    "process",
    "parameterization",
    "times",
    "spacing",
    "loss",
    "sampler",
    # Before the model and guidance, which are supplied with what it gives and takes.
    "encoder",
    "guidance",
    "model",
)
"""Whose facts are gathered, in this order; the others are asked when they are made."""
_OF_SAMPLES = ("autoencoder", "dataset", "features")
"""What meets samples as they are, even where the rest works in their latents."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """What is known of a pipeline once its components were asked."""

    facts: Facts
    data: DataSpec
    """Of the samples."""
    inner: DataSpec
    """Of what the model works in: latents, of which no range is known, or the samples."""
    configs: Mapping[str, Config]
    """The configurations by kind, with what the pipeline supplies of the data."""
    schedule: NoiseSchedule | None
    """Made, as its noise levels are facts too."""
    problems: tuple[Problem, ...]

    def seen_by(self, choice: Choice) -> DataSpec:
        """The data as this component meets them."""
        return self.data if _meets_samples(choice) else self.inner

    def facts_for(self, choice: Choice) -> Facts:
        """All facts, with the data as this component meets them."""
        return {**self.facts, **of_data("data", self.seen_by(choice))}


def gather_facts(blueprint: Blueprint) -> Gathered:
    """Ask every component what it offers to the others."""
    data, problems = data_of(blueprint)
    # Everything is said from here on, so that nobody asks the dataset again.
    data = data.model_copy(update={name: getattr(data, name) for name in DataSpec.model_fields})
    inner, wrong = latents_of(blueprint, data)
    problems += wrong
    facts: dict[str, Any] = {**dataset_facts(blueprint, data), **of_data("data", inner)}
    facts[LATENTS] = "autoencoder" in blueprint.choices
    facts[ADDED], wrong = added_conditions(blueprint, inner)
    problems += wrong
    schedule, wrong = _schedule_of(blueprint, data, facts)
    problems += wrong
    if schedule is None:
        # Nobody's objections mean anything without the noise levels.
        return Gathered(facts, data, inner, {}, None, problems)
    levels, wrong = asked("schedule", "log_snr", lambda: schedule_facts(schedule))
    problems += wrong
    facts |= levels or {}
    configs: dict[str, Config] = {}
    for kind in ENCODER_FIRST:
        choice = blueprint.choices.get(kind)
        if choice is None or not choice.readable:
            continue
        config = configs[kind] = filled_in(choice, data if _meets_samples(choice) else inner, facts)
        own, wrong = own_facts(choice, config)
        problems += wrong
        facts |= {f"{kind}.{name}": value for name, value in (own or {}).items()}
    return Gathered(facts, data, inner, configs, schedule, problems)


def schedule_facts(schedule: NoiseSchedule) -> Facts:
    """What every schedule offers: `schedule.steps`, `.zero_terminal_snr`, `.t_min`."""
    return {
        "schedule.steps": schedule.steps,
        "schedule.zero_terminal_snr": bool(torch.isneginf(schedule.log_snr(1.0))),
        "schedule.t_min": schedule.t_min,
    }


def added_conditions(
    blueprint: Blueprint, seen: DataSpec
) -> tuple[dict[str, tuple[int, ...]], tuple[Problem, ...]]:
    """The conditions that augmentations add."""
    found: dict[str, tuple[int, ...]] = {}
    problems: tuple[Problem, ...] = ()
    for choice in blueprint.training.values():
        if choice.kind != "augmentation" or not choice.readable:
            continue
        config = filled_in(choice, seen, {})
        own, wrong = own_facts(choice, config)
        problems += wrong
        found |= {name: tuple(shape) for name, shape in (own or {}).get("adds", {}).items()}
    return found, problems


def _meets_samples(choice: Choice) -> bool:
    return choice.kind in _OF_SAMPLES or (
        choice.kind == "metric" and issubclass(choice.component, SampleMetric)
    )


def _schedule_of(
    blueprint: Blueprint, data: DataSpec, facts: Facts
) -> tuple[NoiseSchedule | None, tuple[Problem, ...]]:
    choice = blueprint.choices.get("schedule")
    if choice is None:
        return None, ()

    def supply(source: str) -> Any:
        if source == SHAPE or is_fact(source):
            return fact_supplied(source, data, facts)
        raise ComponentError(f"it is made with another {source}; name one in its config")

    seed = 0 if blueprint.settings is None else blueprint.settings.seed
    with seeded(mix(seed, "schedule")):
        made, problems = create_one(choice, supply)
    return cast(NoiseSchedule | None, made), problems
