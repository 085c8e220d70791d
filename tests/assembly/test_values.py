"""A pipeline is assembled of values: with no host, no files and no network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest

from diffkit.assembly.blueprint import Blueprint, Choice, Problem, raise_if
from diffkit.assembly.build import assemble
from diffkit.assembly.describe import describe
from diffkit.assembly.facts import gather_facts
from diffkit.assembly.incompatibilities import incompatibilities
from diffkit.bundled.losses.simple import Simple
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.bundled.times.uniform import Uniform
from diffkit.config.spec import ComponentSpec, DataSpec, PipelineSpec
from diffkit.core.component import Component, Config, Facts, arguments_of
from diffkit.core.sampler import State, StepSampler
from diffkit.errors import SpecError

DATA = DataSpec(shape=(2,))
SETTINGS = PipelineSpec.model_validate(
    {
        "data": DATA,
        **{
            kind: ComponentSpec(id=kind)
            for kind in ("schedule", "process", "model", "loss", "sampler")
        },
    }
)


def choice(instance: Component) -> Choice:
    """As `read` makes one of an instance, here by hand."""
    given = arguments_of(instance)
    described = ComponentSpec(id=f"here.{type(instance).__name__}")
    return Choice(
        instance.kind,
        type(instance),
        supplied={"schedule": "schedule"} if "schedule" in given else {},
        instance=instance,
        given=given,
        described=described,
    )


def blueprint(*others: Component) -> Blueprint:
    schedule = Linear(steps=100)
    process = VariancePreserving(schedule=schedule)
    parts = (schedule, process, Simple(), DDPM(), Epsilon(), Uniform(), Trailing(), *others)
    return Blueprint({part.kind: choice(part) for part in parts}, SETTINGS)


class Objects(StepSampler):
    """Objects to what it is beside."""

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        yield f"it dislikes {facts['schedule.steps']} steps"

    def step(self, denoiser: Any, x_t: Any, t: float, s: float, noise: Any) -> State:
        raise NotImplementedError


class Breaks(Objects):
    """Its code fails where it is asked."""

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        raise RuntimeError("a mistake")


def test_it_builds() -> None:
    given = blueprint()
    components = assemble(given).components
    for kind in ("schedule", "process", "loss", "sampler", "spacing"):
        assert getattr(components, kind) is given.choices[kind].instance
    assert components.shape == (2,)


def test_it_swaps_and_leaves_what_was() -> None:
    before = blueprint()
    own = before.choices["process"]
    after = before.replace(
        schedule=choice(Cosine(steps=100)), process=own.to_be_made_with_another("schedule")
    )
    swapped = assemble(after).components
    assert isinstance(swapped.process, VariancePreserving)
    assert swapped.process.schedule is swapped.schedule is after.choices["schedule"].instance
    first = assemble(before).components
    assert first.process is own.instance
    assert isinstance(first.schedule, Linear)


def test_it_describes() -> None:
    spec = describe(blueprint(), DATA)
    assert spec.process.id == "here.VariancePreserving"
    assert spec.data == DATA


@pytest.mark.parametrize(
    ("sampler", "said", "cause"),
    [
        (Objects, "sampler: it dislikes 100 steps", type(None)),
        (Breaks, "sampler: its requires raised RuntimeError: a mistake", RuntimeError),
    ],
)
def test_problems_are_values(sampler: type[Component], said: str, cause: type) -> None:
    given = blueprint(sampler())
    found = incompatibilities(given, gather_facts(given))
    assert [problem.text.startswith(said) for problem in found] == [True]
    assert isinstance(found[0].cause, cause)
    assert incompatibilities(given, gather_facts(given)) is not found
    with pytest.raises(SpecError) as caught:
        assemble(given)
    assert isinstance(caught.value.__cause__, cause)


def test_a_process_of_another_schedule_is_refused() -> None:
    given = blueprint(RectifiedFlow(schedule=Cosine(steps=100)))
    with pytest.raises(SpecError, match="holds a schedule of its own, Cosine"):
        assemble(given)


def test_what_follows_from_other_problems_is_told_alone_only() -> None:
    first, follows = Problem("one"), Problem("two", follows=True)
    for problems, told in (((first, follows), ("one",)), ((follows,), ("two",))):
        with pytest.raises(SpecError) as caught:
            raise_if(problems)
        assert caught.value.problems == told
    raise_if(())


def test_blueprints_and_choices_are_frozen() -> None:
    given = blueprint()
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.settings = None  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.choices["process"].instance = None  # type: ignore[misc]


def test_the_same_facts_twice() -> None:
    given = blueprint()
    one, other = gather_facts(given), gather_facts(given)
    assert one.facts == other.facts
