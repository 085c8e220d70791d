"""What a pipeline is trained with: components within the settings of its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from diffkit.assembly.blueprint import UNREGISTERED, Blueprint, Choice, Problem, raise_if
from diffkit.assembly.choice_facts import filled_in, objections
from diffkit.assembly.create import Supply, create_one
from diffkit.assembly.facts import Gathered
from diffkit.config.spec import TRAINING_KINDS
from diffkit.core.augmentation import Augmentation
from diffkit.core.average import Average
from diffkit.core.component import Component
from diffkit.core.learning_rate import LearningRate
from diffkit.core.observer import Observer
from diffkit.core.optimizer import Optimizer
from diffkit.errors import SpecError

Choose = Callable[[Component], Choice]


@dataclass(frozen=True, eq=False)
class TrainingComponents:
    """What makes the updates, and what follows them."""

    optimizer: Optimizer
    learning_rate: LearningRate
    averages: Mapping[str, Average] = field(default_factory=dict)
    augmentations: tuple[Augmentation, ...] = ()
    observers: Mapping[str, Observer] = field(default_factory=dict)
    """Those that are installed, by what they are called in messages."""

    def tracks(self) -> dict[str, tuple[str, str]]:
        """Every average that is kept: its full name, with those of its component and track."""
        return {
            f"{name}-{track}" if track else name: (name, track)
            for name, average in self.averages.items()
            for track in average.tracks()
        }


def create_training(blueprint: Blueprint, supply: Callable[[Choice], Supply]) -> TrainingComponents:
    """The components of a training. Raises SpecError where one cannot be made."""
    made: dict[str, Component] = {}
    problems: tuple[Problem, ...] = ()
    for place, choice in blueprint.training.items():
        component, wrong = create_one(choice, supply(choice))
        problems += tuple(_at(place, choice, problem) for problem in wrong)
        made |= {} if component is None else {place: component}
    raise_if(problems)
    found = TrainingComponents(
        optimizer=cast(Optimizer, made["optimizer"]),
        learning_rate=cast(LearningRate, made["learning_rate"]),
        averages={n: cast(Average, c) for n, c in _under("averages.", made).items()},
        augmentations=tuple(cast(Augmentation, c) for c in _under("augmentations[", made).values()),
        observers={
            f"{_name(blueprint.training[place])} (training.{place})": component
            for place, component in made.items()
            if isinstance(component, Observer)
        },
    )
    if wrong_tracks := [t for t in found.tracks() if not is_track_name(t)]:
        raise SpecError(
            [
                f"training.averages: the track {wrong_tracks[0]!r} cannot be the name of a file; "
                "use letters, digits, '.', '-' and '_'"
            ]
        )
    return found


def training_objections(blueprint: Blueprint, gathered: Gathered) -> tuple[Problem, ...]:
    """What the components of a training say of the rest."""
    found: list[Problem] = []
    for place, choice in blueprint.training.items():
        if not choice.readable:
            continue
        facts = gathered.facts_for(choice)
        config = filled_in(choice, gathered.seen_by(choice), facts)
        found += (_at(place, choice, p) for p in objections(choice, config, facts))
    return tuple(found)


def training_aside(
    fields: Mapping[str, Any], choose: Choose
) -> tuple[dict[str, Any], dict[str, Choice], list[str]]:
    """The fields of a spec with the instances in its training replaced by what describes them.

    Those instances, by path; and what is wrong.
    """
    training = fields.get("training")
    if not isinstance(training, Mapping):
        return dict(fields), {}, []
    choices: dict[str, Choice] = {}
    problems: list[str] = []
    found = {
        name: _aside(value, name, TRAINING_KINDS.get(name), choose, choices, problems)
        for name, value in training.items()
    }
    return {**fields, "training": found}, choices, problems


def changed_places(known: Mapping[str, Choice], changes: Mapping[str, Any]) -> dict[str, Choice]:
    """What stays as it is where these settings change."""
    changed = {"averages" if name == "ema_decay" else name for name in changes}
    return {
        place: choice
        for place, choice in known.items()
        if place.partition(".")[0].partition("[")[0] not in changed
    }


def _aside(
    value: Any,
    place: str,
    kind: str | None,
    choose: Choose,
    choices: dict[str, Choice],
    problems: list[str],
) -> Any:
    """A setting without instances; these go to the choices."""
    if isinstance(value, Component):
        if value.kind != kind:
            problems.append(f"training.{place}: an instance of a {value.kind} does not belong here")
            return None
        choices[place] = choice = choose(value)
        if choice.described is None:
            return {"id": f"{UNREGISTERED}{type(value).__name__}"}
        return choice.described.model_dump(mode="json")
    if kind is None:
        return value
    if isinstance(value, Mapping):
        return {
            k: _aside(v, f"{place}.{k}", kind, choose, choices, problems) for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            _aside(v, f"{place}[{i}]", kind, choose, choices, problems) for i, v in enumerate(value)
        ]
    return value


def _at(place: str, choice: Choice, problem: Problem) -> Problem:
    return problem._replace(text=f"training.{place}{problem.text.removeprefix(choice.kind)}")


def _name(choice: Choice) -> str:
    return choice.described.id if choice.described else choice.component.__name__


def _under(prefix: str, made: Mapping[str, Component]) -> dict[str, Component]:
    return {p.removeprefix(prefix): c for p, c in made.items() if p.startswith(prefix)}


def is_track_name(name: str) -> bool:
    """Whether a file can have this name, on any system."""
    return bool(name) and all(c.isascii() and (c.isalnum() or c in "._-") for c in name)
