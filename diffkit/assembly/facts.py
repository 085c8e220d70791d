"""What the choices of a blueprint say of themselves, before anything large is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import torch
from pydantic import ValidationError

from diffkit.assembly.blueprint import Blueprint, Choice, Problem
from diffkit.assembly.condition_flow import ADDED
from diffkit.assembly.create import create_one
from diffkit.assembly.references import with_references
from diffkit.config.signature import explained
from diffkit.config.spec import ComponentSpec, DataSpec
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.component import Component, Config, Described, Facts, arguments_of
from diffkit.core.data import is_fact
from diffkit.core.dataset import Dataset
from diffkit.core.metric import SampleMetric
from diffkit.core.noise import mix
from diffkit.core.random_state import seeded
from diffkit.core.schedule import NoiseSchedule
from diffkit.errors import ComponentError, DiffkitError
from diffkit.plugins.isolation import cause_of

SHAPE, LATENTS = "data.shape", "data.latents"
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
_DEFAULT_DATA = DataSpec(shape=(3, 32, 32), range=(-1.0, 1.0))
_Answer = TypeVar("_Answer")


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
        return {**self.facts, **_of_data("data", self.seen_by(choice))}


def gather_facts(blueprint: Blueprint) -> Gathered:
    """Ask every component what it offers to the others."""
    data, problems = _data_of(blueprint)
    # Everything is said from here on, so that nobody asks the dataset again.
    data = data.model_copy(update={name: getattr(data, name) for name in DataSpec.model_fields})
    inner, wrong = _latents_of(blueprint, data)
    problems += wrong
    facts: dict[str, Any] = {**_dataset_facts(blueprint, data), **_of_data("data", inner)}
    facts[LATENTS] = "autoencoder" in blueprint.choices
    facts[ADDED], wrong = added_conditions(blueprint, inner)
    problems += wrong
    schedule, wrong = _schedule_of(blueprint, data, facts)
    problems += wrong
    if schedule is None:
        # Nobody's objections mean anything without the noise levels.
        return Gathered(facts, data, inner, {}, None, problems)
    levels, wrong = _asked("schedule", "log_snr", lambda: schedule_facts(schedule))
    problems += wrong
    facts |= levels or {}
    configs: dict[str, Config] = {}
    for kind in ENCODER_FIRST:
        choice = blueprint.choices.get(kind)
        if choice is None or not choice.readable:
            continue
        config = configs[kind] = filled_in(choice, data if _meets_samples(choice) else inner, facts)
        own, wrong = _asked(kind, "facts", _facts_of(choice.component, config))
        problems += wrong
        facts |= {f"{kind}.{name}": value for name, value in (own or {}).items()}
    return Gathered(facts, data, inner, configs, schedule, problems)


def objections(choice: Choice, config: Config, facts: Facts) -> tuple[Problem, ...]:
    """What a component says of the others; or why it cannot say, as where it reads files."""

    def required() -> list[str]:
        return list(choice.component.requires(config, facts))

    found, wrong = _asked(choice.kind, "requires", required)
    return (*wrong, *(Problem(f"{choice.kind}: {text}") for text in found or []))


def filled_in(choice: Choice, seen: DataSpec, facts: Facts) -> Config:
    """The configuration of a component, with what the pipeline supplies of the data."""
    if choice.instance is not None:
        return cast(Config, SimpleNamespace(**arguments_of(choice.instance)))

    def nested(place: str, reference: ComponentSpec) -> object:
        inner = choice.nested.get(place)
        if inner is None or not inner.readable:
            return reference
        return Described(inner.component, filled_in(inner, seen, facts))

    values = dict.fromkeys(choice.in_code) | {
        name: with_references(value, name, nested) for name, value in choice.arguments.items()
    }
    for name, source in choice.supplied.items():
        if values[name] is None and (source == SHAPE or is_fact(source)):
            values[name] = fact_supplied(source, seen, facts)
    return cast(Config, SimpleNamespace(**values))


def fact_supplied(source: str, seen: DataSpec, facts: Facts) -> Any:
    """A fact that a component is supplied with; None where nobody offers it.

    Of the data as that component sees them.
    """
    return {**facts, **_of_data("data", seen)}.get(source)


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
        own, wrong = _asked("augmentation", "facts", _facts_of(choice.component, config))
        problems += wrong
        found |= {name: tuple(shape) for name, shape in (own or {}).get("adds", {}).items()}
    return found, problems


def _facts_of(component: type[Component], config: Config) -> Callable[[], dict[str, Any]]:
    return lambda: dict(component.facts(config))


def _meets_samples(choice: Choice) -> bool:
    return choice.kind in _OF_SAMPLES or (
        choice.kind == "metric" and issubclass(choice.component, SampleMetric)
    )


def _of_data(prefix: str, data: DataSpec) -> dict[str, Any]:
    return {f"{prefix}.{name}": getattr(data, name) for name in DataSpec.model_fields}


def _dataset_facts(blueprint: Blueprint, data: DataSpec) -> dict[str, Any]:
    """What a spec says of the data; and of the dataset's own facts, where one is asked for."""
    found = _of_data("dataset", data)
    dataset = blueprint.choices.get("dataset")
    wanted = {
        source
        for choice in blueprint.choices.values()
        for source in sources_of(choice)
        if source.startswith("dataset.") and source not in found
    }
    if not wanted or dataset is None or not dataset.readable:
        return found
    config = filled_in(dataset, data, {})
    own, _ = _asked("dataset", "facts", _facts_of(dataset.component, config))
    return {**{f"dataset.{name}": value for name, value in (own or {}).items()}, **found}


def sources_of(choice: Choice) -> set[str]:
    """Everything that a component and those within it are supplied with: what nobody gave."""
    given = choice.arguments if choice.readable else {}
    own = {source for name, source in choice.supplied.items() if given.get(name) is None}
    return own.union(*map(sources_of, choice.nested.values()))


_FILLED = ("dtype", "vocabulary", "conditions")
"""What a spec that says only the shape and the range of the data has from the dataset."""


def _completed(data: DataSpec, dataset: Choice | None) -> DataSpec:
    """The data of a spec, with what it does not say from the dataset, if that can be asked."""
    unsaid = [name for name in _FILLED if name not in data.model_fields_set]
    if not unsaid or dataset is None or not dataset.readable:
        return data
    found, _ = _asked("dataset", "facts", lambda: _declared(dataset))
    if found is None:
        # It is asked again, and its problem said, when data are read.
        return data
    return data.model_copy(update={name: getattr(found, name) for name in unsaid})


def _data_of(blueprint: Blueprint) -> tuple[DataSpec, tuple[Problem, ...]]:
    """What the spec says of the data; else the dataset; else the model given; else images."""
    settings = blueprint.settings
    problems: tuple[Problem, ...] = ()
    if settings is not None and settings.data is not None:
        return _completed(settings.data, blueprint.choices.get("dataset")), problems
    dataset = blueprint.choices.get("dataset")
    if dataset is not None and dataset.readable:
        found, problems = _asked("dataset", "facts", lambda: _declared(dataset))
        if found is not None:
            return found, problems
    model = blueprint.choices.get("model")
    if "autoencoder" not in blueprint.choices and model is not None and model.given is not None:
        shape = model.given.get("shape")
        if shape is not None:
            return DataSpec(shape=tuple(shape)), problems
    return _DEFAULT_DATA, problems


def _declared(choice: Choice) -> DataSpec:
    """What a dataset says of its samples. Raises ComponentError where that is nothing."""
    if choice.kind in sources_of(choice):
        raise ComponentError("it is made with another dataset; name one in its config")
    if choice.given is not None:
        dataset = cast(Dataset, choice.instance)
        facts: Facts = {name: getattr(dataset, name) for name in DataSpec.model_fields}
    else:
        facts = choice.component.facts(filled_in(choice, _DEFAULT_DATA, {}))
    if "shape" not in facts:
        name = choice.component.__name__
        raise ComponentError(f"{name} says no shape of its samples in its facts; tell its authors")
    told = {name: facts[name] for name in DataSpec.model_fields if name in facts}
    if told.get("conditions") is not None:
        told["conditions"] = dict(told["conditions"])
    try:
        return DataSpec(**{**told, "shape": tuple(facts["shape"])})
    except ValidationError as error:
        wrong = "; ".join(explained(error, "", DataSpec.model_fields))
        raise ComponentError(f"what it declares of its data is wrong: {wrong}") from error


def _latents_of(blueprint: Blueprint, data: DataSpec) -> tuple[DataSpec, tuple[Problem, ...]]:
    """What the model works in."""
    choice = blueprint.choices.get("autoencoder")
    if choice is None or not choice.readable:
        return data, ()
    config = filled_in(choice, data, {})
    kind = cast(type[Autoencoder], choice.component)

    def latents() -> DataSpec:
        shape = tuple(kind.latent_shape(config, data.shape))
        return DataSpec(shape=shape, conditions=data.conditions)

    found, problems = _asked("autoencoder", "latent_shape", latents)
    return (data if found is None else found), problems


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


def _asked(
    kind: str, what: str, question: Callable[[], _Answer]
) -> tuple[_Answer | None, tuple[Problem, ...]]:
    """What a component answers; where it raises, None and the problem."""
    try:
        return question(), ()
    except DiffkitError as error:
        return None, (Problem(f"{kind}: {error}"),)
    except Exception as error:  # noqa: BLE001 - it is its author's code
        text = f"{kind}: its {what} raised {cause_of(error)}; tell its authors"
        return None, (Problem(text, error),)
