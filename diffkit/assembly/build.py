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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

from diffkit.assembly.blueprint import Blueprint, Choice, Problem, problems_of, raise_if
from diffkit.assembly.components import Components
from diffkit.assembly.condition_flow import (
    ADDED,
    dropout_problem,
    flow_of,
    flow_problems,
    guidance_problem,
    null_problem,
)
from diffkit.assembly.create import Supply
from diffkit.assembly.describe import describe
from diffkit.assembly.facts import (
    Gathered,
    added_conditions,
    gather_facts,
)
from diffkit.assembly.incompatibilities import incompatibilities, training_incompatibilities
from diffkit.assembly.latents import LatentSpace
from diffkit.assembly.questions import question_problems
from diffkit.assembly.read import RawChoice, with_choices
from diffkit.assembly.retrain import with_training
from diffkit.assembly.supply import (
    SMALL,
    Made,
    create_large,
    create_small,
    made_again,
    supply_for,
)
from diffkit.assembly.training import TrainingComponents, create_training
from diffkit.config.spec import PipelineSpec
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.component import Component
from diffkit.core.denoiser import Declared
from diffkit.core.process import ForwardProcess
from diffkit.errors import SpecError
from diffkit.plugins.host import Host

SWAPPABLE = ("sampler", "spacing", "schedule", "process", "guidance")
"""What can be another for one sampling run."""


@dataclass(frozen=True, eq=False)
class Assembly:
    """A blueprint, what is known of it, and the components that were made of it."""

    blueprint: Blueprint
    gathered: Gathered
    made: Made
    components: Components

    @cached_property
    def spec(self) -> PipelineSpec:
        """What a file says of it, with every default written out."""
        return describe(self.blueprint, self.gathered.data)

    def check_saveable(self) -> None:
        """Raise SpecError where a component has no name in a file."""
        if unsaveable := self.blueprint.undescribed:
            raise SpecError(unsaveable)


def assemble(blueprint: Blueprint, *, to_train: bool = True) -> Assembly:
    """The components of a blueprint, to train or for one sampling run.

    Raises SpecError with every problem.
    """
    gathered = gather_facts(blueprint)
    problems = (*blueprint.problems, *gathered.problems, *incompatibilities(blueprint, gathered))
    small, wrong = create_small(blueprint, gathered)
    problems += (*wrong, *_wrong_conditions(blueprint, gathered, small, to_train))
    raise_if(problems)
    made, wrong = create_large(blueprint, gathered, small)
    if any(kind not in small for kind in SMALL):
        # Made with a network: what it takes is known only now.
        wrong += _wrong_conditions(blueprint, gathered, made, to_train)
    raise_if(wrong)
    if blueprint.settings is not None:
        # So that another dataset, which something is measured on, changes nothing of the rest.
        settings = blueprint.settings.model_copy(update={"data": gathered.data})
        blueprint = replace(blueprint, settings=settings)
    return Assembly(blueprint, gathered, made, _components(made, gathered))


def _wrong_conditions(
    blueprint: Blueprint, gathered: Gathered, small: Made, to_train: bool
) -> tuple[Problem, ...]:
    """Conditions that somebody takes and nobody gives, or that cannot be dropped."""
    flow = flow_of(gathered.facts)
    if gathered.schedule is None:
        return ()
    guidance = small.get("guidance")
    found: list[str | None] = [*_wrong_questions(blueprint, gathered, small)]
    found += flow_problems(flow, small) if to_train else [guidance_problem(flow, guidance)]
    if blueprint.settings is not None:
        dropout = blueprint.settings.training.condition_dropout
        found += [dropout_problem(dropout, flow)] if to_train else []
        found.append(null_problem(dropout, guidance, flow))
    return problems_of(text for text in found if text)


def _wrong_questions(blueprint: Blueprint, gathered: Gathered, small: Made) -> list[str]:
    model = blueprint.choices.get("model")
    return [*question_problems(None if model is None else model.component, gathered.facts, small)]


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
        blueprint = _swapped(_as_made(assembly, own), choices, host)
        stale = {*choices, *({"process"} if "schedule" in choices else ())}
        blueprint = made_again(blueprint, stale, SWAPPABLE)
        components = assemble(blueprint, to_train=False).components
    return {kind: getattr(components, kind) for kind in SWAPPABLE}


def with_others(assembly: Assembly, choices: Mapping[str, RawChoice], host: Host) -> Assembly:
    """The same networks with another dataset or metric. Raises SpecError."""
    blueprint = with_choices(_as_made(assembly, assembly.made), choices, host)
    return assemble(blueprint, to_train=False)


def with_training_changed(assembly: Assembly, changes: Mapping[str, Any], host: Host) -> Assembly:
    """The same with other settings of training. Raises SpecError with all that is wrong."""
    blueprint = with_training(assembly.blueprint, changes, host)
    wrong = training_incompatibilities(blueprint, assembly.gathered)
    wrong += _never_without(blueprint, assembly)
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


def _never_without(blueprint: Blueprint, assembly: Assembly) -> tuple[Problem, ...]:
    """That the pipeline's own guidance asks without a condition what is never trained so."""
    assert blueprint.settings is not None
    dropout, flow = blueprint.settings.training.condition_dropout, flow_of(assembly.gathered.facts)
    problem = null_problem(dropout, assembly.made.get("guidance"), flow)
    return () if problem is None else problems_of([problem])


def training_components(assembly: Assembly) -> TrainingComponents:
    """What it is trained with, made anew. Raises SpecError."""

    def supply(choice: Choice) -> Supply:
        return supply_for(choice, assembly.gathered, assembly.made, assembly.blueprint)

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


def _components(made: Made, gathered: Gathered) -> Components:
    facts, inner, data = gathered.facts, gathered.inner, gathered.data
    latent = cast(Autoencoder | None, made.get("autoencoder"))
    held: dict[str, Any] = {
        kind: made.get(kind) for kind in ("schedule", *SMALL, "model", "encoder")
    }
    return Components(
        shape=inner.shape,
        data_range=inner.range,
        sample_shape=data.shape,
        sample_range=data.range,
        latents=None if latent is None else LatentSpace(latent, data.shape, data.range),
        flow=flow_of(facts),
        dtype=data.dtype,
        model_steps=facts.get("model.steps"),
        learned_variance=bool(facts.get("model.learned_variance", False)),
        declared=Declared(
            given=tuple(facts.get("model.given", ())), times=tuple(facts.get("model.times", ()))
        ),
        **held,
    )
