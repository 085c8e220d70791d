"""Combinations that cannot work, found before any compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from diffkit.assembly.blueprint import Blueprint, Choice, Problem
from diffkit.assembly.choice_facts import objections
from diffkit.assembly.facts import Gathered
from diffkit.assembly.training import training_objections
from diffkit.config.spec import TrainingSpec
from diffkit.core.component import Component, Config, Facts
from diffkit.core.loss import Loss
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler

_OF_GAUSSIAN_PROCESSES = ("parameterization",)
"""What only the network of a Gaussian process is asked through: of others, whatever the spec names
has no part in anything."""


def incompatibilities(blueprint: Blueprint, gathered: Gathered) -> tuple[Problem, ...]:
    """Every component's objections, and what no single one of them can see."""
    if gathered.schedule is None:
        # Nobody can judge a pipeline whose noise levels are not known.
        return ()
    problems: list[Problem] = []
    process = blueprint.choices.get("process")
    gaussian = process is None or issubclass(process.component, GaussianProcess)
    for kind, config in gathered.configs.items():
        choice = blueprint.choices[kind]
        if kind not in _OF_GAUSSIAN_PROCESSES or gaussian:
            problems += objections(choice, config, gathered.facts_for(choice))
        problems += _texts(_wrong_shape(choice, config, gathered))
    classes = {kind: choice.component for kind, choice in blueprint.choices.items()}
    problems += _texts(_between(classes, gathered.facts))
    return (*problems, *training_incompatibilities(blueprint, gathered))


def training_incompatibilities(blueprint: Blueprint, gathered: Gathered) -> tuple[Problem, ...]:
    """What of training does not go with the rest."""
    if blueprint.settings is None:
        return ()
    classes = {kind: choice.component for kind, choice in blueprint.choices.items()}
    found = _texts(_with_training(classes, blueprint.settings.training, gathered))
    return (*found, *training_objections(blueprint, gathered))


def _wrong_shape(choice: Choice, config: Config, gathered: Gathered) -> Iterable[str]:
    shape, seen = getattr(config, "shape", None), gathered.seen_by(choice).shape
    if shape is not None and tuple(shape) != seen:
        whose = "data's" if seen == gathered.data.shape else "latents'"
        yield (
            f"{choice.kind}.shape is {list(shape)}, but the {whose} is {list(seen)}; leave it "
            "out, and it is supplied"
        )


def _with_training(
    classes: Mapping[str, type[Component]], training: TrainingSpec, gathered: Gathered
) -> Iterable[str]:
    yield from training_problems(training, "autoencoder" in classes)


def _texts(found: Iterable[str]) -> list[Problem]:
    return [Problem(text) for text in found]


def _between(classes: Mapping[str, type[Component]], facts: Facts) -> Iterable[str]:
    """The problems between components that no single one of them can see."""
    process = classes.get("process")
    if process is not None:
        for kind in ("loss", "sampler"):
            yield from _wrong_process(kind, classes.get(kind), process)
        yield from _wrong_numbers(process, facts)
    grid, asked = facts.get("model.steps"), facts.get("schedule.steps")
    if grid is not None and grid != asked:
        here = "is continuous" if asked is None else f"has {asked} steps"
        yield (
            f"model: it can be asked only at multiples of 1/{grid}, and the schedule {here}; "
            "give both the same number of steps"
        )


def training_problems(training: TrainingSpec, autoencoder: bool) -> Iterable[str]:
    """What of training goes only with latents."""
    if training.latents is not None and not autoencoder:
        yield (
            f"training.latents is {training.latents}, and without an autoencoder there are no "
            "latents to keep there; set autoencoder, or leave it out"
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


def _wrong_numbers(process: type[Component], facts: Facts) -> Iterable[str]:
    """Tokens where numbers are needed."""
    if issubclass(process, GaussianProcess) and facts.get("data.dtype") == "int64":
        yield (
            f"process: {process.__name__} adds Gaussian noise to numbers, and the data are tokens "
            "(int64); take a process for tokens, or data that are float32"
        )
