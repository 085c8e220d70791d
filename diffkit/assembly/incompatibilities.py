"""Combinations that cannot work, found before any compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from diffkit.assembly.blueprint import Blueprint, Choice, Problem
from diffkit.assembly.facts import ADDED, Gathered, objections
from diffkit.assembly.questions import question_problems
from diffkit.assembly.training import training_objections
from diffkit.config.spec import TrainingSpec
from diffkit.core.component import Component, Config, Facts
from diffkit.core.encoder import MASK, TOKENS, VECTOR
from diffkit.core.guidance import Guidance
from diffkit.core.loss import Loss
from diffkit.core.process import ForwardProcess
from diffkit.core.sampler import Sampler


def incompatibilities(blueprint: Blueprint, gathered: Gathered) -> tuple[Problem, ...]:
    """Every component's objections, and what no single one of them can see."""
    if gathered.schedule is None:
        # Nobody can judge a pipeline whose noise levels are not known.
        return ()
    problems: list[Problem] = []
    for kind, config in gathered.configs.items():
        choice = blueprint.choices[kind]
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
    dropout = training.condition_dropout
    if problem := dropout_problem(dropout, "encoder" in classes):
        yield problem
    if problem := null_problem(dropout, classes.get("guidance")):
        yield problem
    yield from training_problems(training, "autoencoder" in classes)


def _texts(found: Iterable[str]) -> list[Problem]:
    return [Problem(text) for text in found]


def _between(classes: Mapping[str, type[Component]], facts: Facts) -> Iterable[str]:
    """The problems between components that no single one of them can see."""
    process = classes.get("process")
    if process is not None:
        for kind in ("loss", "sampler"):
            yield from _wrong_process(kind, classes.get(kind), process)
    yield from _wrong_conditions(classes, facts)
    yield from question_problems(classes, facts)
    grid, asked = facts.get("model.steps"), facts.get("schedule.steps")
    if grid is not None and grid != asked:
        here = "is continuous" if asked is None else f"has {asked} steps"
        yield (
            f"model: it can be asked only at multiples of 1/{grid}, and the schedule {here}; "
            "give both the same number of steps"
        )


def dropout_problem(wanted: float | None, encoder: bool) -> str | None:
    """Why conditions cannot be dropped so often; None where they can."""
    if wanted is None or encoder:
        return None
    return (
        f"training.condition_dropout is {wanted}, and without an encoder nobody knows what stands "
        "for no condition; set encoder, or leave it out"
    )


def null_problem(wanted: float | None, guidance: type | None) -> str | None:
    """Why guidance cannot ask a network that was trained so without a condition; None: it can."""
    if guidance is None or not issubclass(guidance, Guidance) or not guidance.needs_null:
        return None
    if wanted != 0.0:
        return None
    return (
        f"guidance: {guidance.__name__} also asks the model without a condition, and it is never "
        "trained so where training.condition_dropout is 0; leave that out (0.1), or the guidance"
    )


def training_problems(training: TrainingSpec, autoencoder: bool) -> Iterable[str]:
    """What of training goes only with latents."""
    if training.latents is not None and not autoencoder:
        yield (
            f"training.latents is {training.latents}, and without an autoencoder there are no "
            "latents to keep there; set autoencoder, or leave it out"
        )


def _wrong_conditions(classes: Mapping[str, type[Component]], facts: Facts) -> Iterable[str]:
    """What the model takes and the encoder gives; what guidance needs."""
    taken = set(facts.get("model.conditions", ()))
    if untold := sorted(set(facts.get(ADDED, ())) - taken):
        yield (
            f"training.augmentations: they add the conditions {', '.join(untold)}, which the model "
            "does not take, so that samples would show what was done to data; take a model that "
            "does, or another augmentation"
        )
    if "encoder" in classes:
        given = {name for name in (VECTOR, TOKENS) if facts.get(f"encoder.{name}")}
        given |= {MASK} if TOKENS in given else set()
        given |= set(facts.get(ADDED, ()))
        if missing := sorted(taken - given):
            yield (
                f"model: it takes the conditions {', '.join(missing)}, and the encoder gives "
                f"{', '.join(sorted(given)) or 'none'}; change one of them"
            )
        elif not taken:
            yield (
                "encoder: the model takes no conditions, so that nothing of what is encoded would "
                "reach it; take a model that does, such as unet, or leave the encoder out"
            )
    guidance = classes.get("guidance")
    if guidance is None or not issubclass(guidance, Guidance) or "encoder" in classes:
        return
    if guidance.needs_null:
        yield (
            f"guidance: {guidance.__name__} also asks the model without a condition, and only an "
            "encoder knows what stands for that; set encoder, or leave the guidance out"
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
