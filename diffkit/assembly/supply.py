"""Making components in the order in which they are made with one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diffkit.assembly.blueprint import Blueprint, Choice, Problem
from diffkit.assembly.choice_facts import SHAPE, fact_supplied, sources_of
from diffkit.assembly.create import create_one
from diffkit.assembly.facts import Gathered
from diffkit.config.spec import COMPONENT_FIELDS
from diffkit.core.component import Component, alike, arguments_of
from diffkit.core.data import is_fact
from diffkit.core.noise import mix
from diffkit.core.random_state import seeded
from diffkit.errors import ComponentError

Made = Mapping[str, Component]
SMALL = (
    "process",
    "parameterization",
    "times",
    "spacing",
    "loss",
    "sampler",
    "guidance",
)
LARGE = {"model": "weights", "encoder": "encoder", "autoencoder": "autoencoder"}
"""Each with the name of its seed, so that weights are the same with the others and without."""
ON_DEMAND = ("dataset", "features", "metric")
"""What is made only once it is asked for: it reads data."""


def create_small(
    blueprint: Blueprint, gathered: Gathered
) -> tuple[dict[str, Component], tuple[Problem, ...]]:
    """What holds no weights to speak of, and is not made with what does."""
    made: dict[str, Component] = {}
    problems: tuple[Problem, ...] = ()
    if gathered.schedule is not None:
        made["schedule"] = gathered.schedule
    for kind in SMALL:
        if not _with(kind, blueprint) & LARGE.keys():
            problems += create(kind, blueprint, gathered, made)
    return made, (*problems, *_agree_on_the_schedule(made))


def create_large(
    blueprint: Blueprint, gathered: Gathered, small: Made
) -> tuple[dict[str, Component], tuple[Problem, ...]]:
    """The networks beside what is small, and what is made with them. Their first weights are
    functions of the spec's seed.
    """
    made = dict(small)
    problems: tuple[Problem, ...] = ()
    for kind in (*LARGE, *SMALL):
        problems += create(kind, blueprint, gathered, made)
    return made, problems


def create(
    kind: str,
    blueprint: Blueprint,
    gathered: Gathered,
    made: dict[str, Component],
    beneath: tuple[str, ...] = (),
) -> tuple[Problem, ...]:
    """Make one component, and before it those that it is made with; what is wrong with them.

    `beneath` are those that wait for it.
    """
    choice = blueprint.choices.get(kind)
    if choice is None or kind in made:
        return ()
    if kind in beneath:
        rest = ", ".join(beneath[beneath.index(kind) :])
        return (Problem(f"{kind}: it is made with {_another(kind, rest)}; name one in its config"),)
    problems: tuple[Problem, ...] = ()
    if choice.instance is None:
        for source in sorted(sources_of(choice) & {*SMALL, *LARGE}):
            problems += create(source, blueprint, gathered, made, (*beneath, kind))
    if problems:
        return problems
    seed = 0 if blueprint.settings is None else blueprint.settings.seed
    with seeded(mix(seed, LARGE.get(kind, kind))):
        component, problems = create_one(choice, supply_for(choice, gathered, made, blueprint))
    if component is not None:
        made[kind] = component
    return problems


def made_again(blueprint: Blueprint, others: set[str], kinds: tuple[str, ...]) -> Blueprint:
    """The blueprint in which all of these kinds that were made with what is another now are to be
    made again.
    """
    stale = set(others)
    for _ in kinds:
        for kind in kinds:
            choice = blueprint.choices.get(kind)
            if choice is None or kind in stale or choice.given is not None:
                # An instance that was given holds what it was made with.
                continue
            for source in sources_of(choice) & stale:
                choice = choice.to_be_made_with_another(source)
                stale.add(kind)
            blueprint = blueprint.replace(**{kind: choice})
    return blueprint


def _another(kind: str, rest: str) -> str:
    return f"another {kind}" if rest == kind else f"one that is made with it ({rest})"


def _with(kind: str, blueprint: Blueprint, seen: frozenset[str] = frozenset()) -> set[str]:
    """Every kind that a component is made with, and those that these are made with."""
    choice = blueprint.choices.get(kind)
    if choice is None or choice.instance is not None or kind in seen:
        return set()
    found = sources_of(choice) & set(COMPONENT_FIELDS)
    return found.union(*(_with(source, blueprint, seen | {kind}) for source in found))


def supply_for(
    choice: Choice, gathered: Gathered, made: Made, blueprint: Blueprint
) -> Callable[[str], Any]:
    """What gives a component what the pipeline supplies it with."""

    def supply(source: str) -> Any:
        if source == SHAPE or is_fact(source):
            return fact_supplied(source, gathered.seen_by(choice), gathered.facts)
        if source in made:
            return made[source]
        if source in ON_DEMAND and choice.kind not in ON_DEMAND:
            raise ComponentError(
                f"it asks for the {source}, which is made only when data are read; ask for its "
                'facts, as by Supplied("dataset.vocabulary")'
            )
        if source == choice.kind:
            raise ComponentError(f"it is made with another {source}; name one in its config")
        if source in blueprint.choices:
            raise ComponentError(f"it needs the {source}, which cannot be made")
        raise ComponentError(f"it needs a {source}, which the pipeline does not have")

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
