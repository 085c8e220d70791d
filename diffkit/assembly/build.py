"""Building: every problem at once, and nothing large before there are none.

    read(raw, host)                         -> Blueprint      what was chosen
    gather_facts(blueprint)                 -> Gathered       what the choices say of themselves
    incompatibilities(blueprint, gathered)  -> problems       what cannot work together
    create_small, create_large              -> components
    describe(blueprint, data)               -> PipelineSpec   what a file says of it

Each is a function of values. Another part for one sampling run is another blueprint, and the same
functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from diffkit.assembly.blueprint import Blueprint, Choice, Problem, raise_if
from diffkit.assembly.components import Components
from diffkit.assembly.create import Supply, create_one
from diffkit.assembly.facts import (
    ADDED,
    SHAPE,
    Gathered,
    added_conditions,
    filled_in,
    gather_facts,
    objections,
)
from diffkit.assembly.incompatibilities import incompatibilities, training_incompatibilities
from diffkit.assembly.latents import LatentSpace
from diffkit.assembly.read import RawChoice, with_choices
from diffkit.assembly.retrain import with_training
from diffkit.assembly.training import TrainingComponents, create_training
from diffkit.config.spec import COMPONENT_FIELDS
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.component import Component, alike, arguments_of
from diffkit.core.data import FACTS
from diffkit.core.noise import mix
from diffkit.core.process import ForwardProcess
from diffkit.core.random_state import seeded
from diffkit.errors import ComponentError, SpecError
from diffkit.plugins.host import Host

Made = Mapping[str, Component]
_SMALL = (
    "process",
    "parameterization",
    "times",
    "spacing",
    "loss",
    "sampler",
    "guidance",
)
_LARGE = {"model": "weights", "encoder": "encoder", "autoencoder": "autoencoder"}
"""Each with the name of its seed, so that weights are the same with the others and without."""
SWAPPABLE = ("sampler", "spacing", "schedule", "process", "guidance")
"""What can be another for one sampling run."""


@dataclass(frozen=True, eq=False)
class Assembly:
    """A blueprint, what is known of it, and the components that were made of it."""

    blueprint: Blueprint
    gathered: Gathered
    made: Made
    components: Components


def assemble(blueprint: Blueprint) -> Assembly:
    """The components of a blueprint. Raises SpecError with every problem."""
    gathered = gather_facts(blueprint)
    problems = (*blueprint.problems, *gathered.problems, *incompatibilities(blueprint, gathered))
    small, wrong = create_small(blueprint, gathered)
    raise_if((*problems, *wrong))
    made, wrong = create_large(blueprint, gathered, small)
    raise_if(wrong)
    return Assembly(blueprint, gathered, made, _components(made, gathered))


def create_small(blueprint: Blueprint, gathered: Gathered) -> tuple[Made, tuple[Problem, ...]]:
    """What holds no weights to speak of."""
    made: dict[str, Component] = {}
    problems: tuple[Problem, ...] = ()
    if gathered.schedule is not None:
        made["schedule"] = gathered.schedule
    for kind in _SMALL:
        problems += _create(kind, blueprint, gathered, made)
    return made, (*problems, *_agree_on_the_schedule(made))


def create_large(
    blueprint: Blueprint, gathered: Gathered, small: Made
) -> tuple[Made, tuple[Problem, ...]]:
    """The networks beside what is small. Their first weights are functions of the spec's seed."""
    made = dict(small)
    problems: tuple[Problem, ...] = ()
    seed = 0 if blueprint.settings is None else blueprint.settings.seed
    for kind, name in _LARGE.items():
        with seeded(mix(seed, name)):
            problems += _create(kind, blueprint, gathered, made)
    return made, problems


def create_on_demand(assembly: Assembly, kind: str, made: Made) -> Made:
    """A dataset, a metric or features, with what it is supplied with: `made`, and those.

    Raises:
        SpecError: it cannot be made.
    """
    found = {**assembly.made, **made}
    if kind in found:
        return found
    choice = assembly.blueprint.choices.get(kind)
    if choice is None:
        raise SpecError([f"the spec names no {kind}; give one to train or eval, or set {kind}"])
    for source in (s for s in choice.supplied.values() if s in COMPONENT_FIELDS):
        found |= create_on_demand(assembly, source, found)
    facts = assembly.gathered.facts_for(choice)
    config = filled_in(choice, assembly.gathered.seen_by(choice), facts)
    raise_if(objections(choice, config, facts))
    raise_if(_create(kind, assembly.blueprint, assembly.gathered, found))
    return found


def swapped(
    assembly: Assembly, components: Components, choices: Mapping[str, RawChoice], host: Host
) -> Mapping[str, Component | None]:
    """The components of a sampling run, with these choices in place of the pipeline's.

    A new schedule goes into the process too, which is made again with it. `components` are those
    of the weights that are sampled with: a learned schedule has an average too.

    Raises:
        SpecError: with everything that is wrong with the choices.
    """
    if choices:
        # An autoencoder is no part of these, and is the same for all weights.
        own = {kind: getattr(components, kind, made) for kind, made in assembly.made.items()}
        components = assemble(_swapped(_as_made(assembly, own), choices, host)).components
    return {kind: getattr(components, kind) for kind in SWAPPABLE}


def with_others(assembly: Assembly, choices: Mapping[str, RawChoice], host: Host) -> Assembly:
    """The same networks with another dataset or metric. Raises SpecError."""
    blueprint = with_choices(_as_made(assembly, assembly.made), choices, host)
    return assemble(blueprint)


def with_training_changed(assembly: Assembly, changes: Mapping[str, Any], host: Host) -> Assembly:
    """The same with other settings of training. Raises SpecError with all that is wrong."""
    blueprint = with_training(assembly.blueprint, changes, host)
    wrong = training_incompatibilities(blueprint, assembly.gathered)
    added, _ = added_conditions(blueprint, assembly.gathered.inner)
    if added != assembly.gathered.facts[ADDED]:
        said = ", ".join(added) or "none"
        wrong += (
            Problem(
                f"training.augmentations: they add the conditions {said}, and this pipeline was "
                "built with others, which its model takes; set them in the spec"
            ),
        )
    raise_if((*blueprint.problems, *wrong))
    return replace(assembly, blueprint=blueprint)


def training_components(assembly: Assembly) -> TrainingComponents:
    """What it is trained with, made anew. Raises SpecError."""

    def supply(choice: Choice) -> Supply:
        return _supply(choice, assembly.gathered, assembly.made)

    return create_training(assembly.blueprint, supply)


def _as_made(assembly: Assembly, made: Mapping[str, Component | None]) -> Blueprint:
    """The blueprint whose choices are what was made of them: the model above all is not made
    again.
    """
    blueprint = assembly.blueprint
    held = {
        kind: choice.made(instance)
        for kind, choice in blueprint.choices.items()
        if (instance := made.get(kind)) is not None
    }
    return blueprint.replace(**held)


def _swapped(blueprint: Blueprint, choices: Mapping[str, RawChoice], host: Host) -> Blueprint:
    process = choices.get("process")
    if isinstance(process, ForwardProcess) and "schedule" not in choices:
        choices = {**choices, "schedule": process.schedule}
    changed = with_choices(blueprint, choices, host)
    if "schedule" not in choices or "process" in choices:
        return changed
    own = changed.choices["process"]
    if own.given is not None and "schedule" not in own.supplied.values():
        wrong = Problem(
            f"process: {own.component.__name__} was given as an instance and does not say which "
            "argument is the schedule, so it cannot be made again with another; give the process "
            "too"
        )
        return replace(changed, problems=(*changed.problems, wrong))
    return changed.replace(process=own.to_be_made_with_another("schedule"))


def _create(
    kind: str, blueprint: Blueprint, gathered: Gathered, made: dict[str, Component]
) -> tuple[Problem, ...]:
    """Make one component beside those that there are; what is wrong with it."""
    choice = blueprint.choices.get(kind)
    if choice is None or kind in made:
        return ()
    component, problems = create_one(choice, _supply(choice, gathered, made))
    if component is not None:
        made[kind] = component
    return problems


def _supply(choice: Choice, gathered: Gathered, made: Made) -> Callable[[str], Any]:
    def supply(source: str) -> Any:
        if source == SHAPE:
            return gathered.seen_by(choice).shape
        if source in FACTS:
            return gathered.facts.get(source)
        if source not in made:
            raise ComponentError(f"it needs a {source}, which the pipeline does not have")
        return made[source]

    return supply


def _agree_on_the_schedule(made: dict[str, Component]) -> tuple[Problem, ...]:
    """A process may bring its schedule, which is then the pipeline's: it must be the same."""
    process, schedule = made.get("process"), made.get("schedule")
    held = None if process is None else arguments_of(process).get("schedule")
    if held is None or schedule is None or held is schedule:
        return ()
    if alike(held, schedule):
        made["schedule"] = held
        return ()
    return (
        Problem(
            f"process: it holds a schedule of its own, {type(held).__name__}, that is not the "
            "pipeline's; make the process with the instance that you give as the schedule, or "
            "without a schedule of its own"
        ),
    )


def _components(made: Made, gathered: Gathered) -> Components:
    facts, inner, data = gathered.facts, gathered.inner, gathered.data
    latent = cast(Autoencoder | None, made.get("autoencoder"))
    conditions, added = tuple(facts.get("model.conditions", ())), facts.get(ADDED, {})
    taken = tuple(facts.get("encoder.takes", conditions))
    held: dict[str, Any] = {
        kind: made.get(kind) for kind in ("schedule", *_SMALL, "model", "encoder")
    }
    return Components(
        shape=inner.shape,
        data_range=inner.range,
        sample_shape=data.shape,
        sample_range=data.range,
        latents=None if latent is None else LatentSpace(latent, data.shape, data.range),
        conditions=conditions,
        taken=tuple(name for name in taken if name not in added),
        added=added,
        model_steps=facts.get("model.steps"),
        learned_variance=bool(facts.get("model.learned_variance", False)),
        **held,
    )
