"""What a check is given: a component, one configuration of it, and what it is tried with."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from diffkit.assembly.create import component_of
from diffkit.assembly.read_choice import read_choice
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.bundled.times.uniform import Uniform
from diffkit.config.signature import signature_of
from diffkit.config.spec import ComponentSpec
from diffkit.core.component import Component
from diffkit.core.data import is_fact
from diffkit.core.dataset import Dataset
from diffkit.core.example import Example
from diffkit.core.loss import Batch
from diffkit.core.model import Condition
from diffkit.core.noise import mix
from diffkit.core.process import ForwardProcess
from diffkit.core.run import Run
from diffkit.errors import ComponentError, DiffkitError
from diffkit.plugins.entries import ComponentEntry
from diffkit.plugins.host import Host
from diffkit.testing.laws import NotChecked
from diffkit.testing.reference import PixelFeatures, Points, TokenData
from diffkit.testing.runs import PreciseRun, in_memory

VOCABULARY = 5
"""Of tokens, where a component is supplied with the dataset's and the fixtures say none."""


_SHAPE = (1, 8, 8)


class CannotBeMade(ComponentError):
    """The component cannot be imported, or refuses its configuration."""


@dataclass(frozen=True)
class Fixtures:
    """What components are tried with, where the pipeline would supply it.

    Args:
        shape: of one sample; (): [1, 8, 8], and two numbers for a sampler.
        conditions: by name, what a model that takes conditions is given: a function of the
            number of samples.
        inputs: by name, what a sampler asks for beside noise: a tensor with one row, for samples
            of `shape`. Without them a sampler with inputs is not run.
        code: arguments of the component that only code can give; and runs, which are in memory.
        vocabulary: how many tokens there are, where samples are tokens.
        process: makes what a sampler or a loss of processes that are not Gaussian is tried with,
            where the kit cannot make it.
        extras: by name, what a network gives beside its output, where a loss or a sampler needs it:
            a function of the number of samples.
    """

    shape: tuple[int, ...] = ()
    conditions: Mapping[str, Callable[[int], torch.Tensor]] = field(default_factory=dict)
    inputs: Mapping[str, torch.Tensor] = field(default_factory=dict)
    code: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: int | None = None
    process: Callable[[], ForwardProcess] | None = None
    extras: Mapping[str, Callable[[int], torch.Tensor]] = field(default_factory=dict)
    shape_is_given: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape_is_given", bool(self.shape))
        object.__setattr__(self, "shape", tuple(self.shape) or _SHAPE)

    @property
    def gives_forms(self) -> bool:
        """Whether there are tensors, or a shape, that fit one configuration and not another."""
        given = (self.conditions, self.inputs, self.extras, self.code, self.shape_is_given)
        return any(map(bool, given))

    @classmethod
    def of(cls, example: Example) -> Fixtures:
        """Those of an example that a component gives of itself."""
        return cls(
            shape=example.shape or (),
            conditions=example.conditions,
            inputs=example.inputs,
            process=example.process,
            code=example.code,
            vocabulary=example.vocabulary,
            extras=example.extras,
        )

    def condition(self, count: int) -> Condition:
        """Conditions for so many samples."""
        return {name: make(count) for name, make in self.conditions.items()}


@dataclass(frozen=True)
class ComponentUnderTest:
    """A component with one configuration, from which checks make as many instances as they like."""

    entry: ComponentEntry
    host: Host
    config: Mapping[str, Any] = field(default_factory=dict)
    fixtures: Fixtures = field(default_factory=Fixtures)
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", {**in_memory(self.fixtures.code), **self.config})

    def __str__(self) -> str:
        given = json.dumps(self.config, default=str) if self.config else ""
        return f"{self.entry.id}{given}"

    @property
    def kind(self) -> str:
        """The kind of component."""
        return self.entry.kind

    @cached_property
    def cls(self) -> type[Component]:
        """The component class, imported now. Raises CannotBeMade."""
        try:
            return self.host.load(self.entry)
        except ComponentError as error:
            raise CannotBeMade(str(error)) from error

    def make(self, config: Mapping[str, Any] | None = None, **supplied: Any) -> Any:
        """A new instance, with this configuration or another; its weights depend on the seed.

        What the pipeline would supply comes from the bench, or from `supplied`, by kind. Raises
        CannotBeMade.
        """
        given = self.config if config is None else config

        def supply(source: str) -> Any:
            return supplied[source] if source in supplied else self.supply(source)

        try:
            self.cls  # noqa: B018 - imported, or an error that says why not
            given = {**in_memory(self.fixtures.code), **given}
            reference = ComponentSpec(id=self.entry.id, config=dict(given))
            choice, problems = read_choice(self.kind, reference, self.host, {}, self.entry.id)
            if problems or choice is None:
                raise CannotBeMade("; ".join(problem.text for problem in problems))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed_for("weights"))
                runs = {name: self._precise(run) for name, run in choice.runs.items()}
                return component_of(replace(choice, runs=runs), supply, self._code())
        except DiffkitError as error:
            raise CannotBeMade(str(error)) from error

    def _code(self) -> dict[str, Any]:
        """The arguments that only code can give; of modules copies, as some of them train."""
        given = self.fixtures.code.items()
        return {
            name: self._precise(value) if isinstance(value, Run) else copy.deepcopy(value)
            for name, value in given
        }

    def _precise(self, run: Run) -> Run:
        """The run in float64; the same one for every instance, which say that they are alike."""
        return self._runs.setdefault(run, PreciseRun(run))

    @cached_property
    def _runs(self) -> dict[Run, Run]:
        return {}

    def vocabulary_of(self, component: type[Component]) -> int | None:
        """How many tokens the samples of a component are made of; None where they are numbers.

        As the fixtures say it, or where the component asks for the dataset's.
        """
        if self.fixtures.vocabulary is not None:
            return self.fixtures.vocabulary
        supplied = signature_of(component, self.host).supplied
        return VOCABULARY if "dataset.vocabulary" in supplied.values() else None

    def require_extras(self, needed: Sequence[str]) -> None:
        """Raise NotChecked where a network should give what no example says the form of."""
        if missing := [name for name in needed if name not in self.fixtures.extras]:
            raise NotChecked(
                f"it needs {', '.join(missing)} of a network; give "
                f"`Example(extras={{{missing[0]!r}: ...}})`, a function of the number of samples"
            )

    def generator(self, purpose: str) -> torch.Generator:
        """Random numbers of a check's own, different for every seed and purpose."""
        return torch.Generator().manual_seed(self.seed_for(purpose))

    def seed_for(self, purpose: str) -> int:
        """A seed, different for every purpose."""
        return mix(self.seed, "conformance", purpose)

    def supply(self, source: str) -> Any:
        """What the pipeline would supply. Raises ComponentError where the kit has none."""
        supplies: dict[str, Callable[[], Any]] = {
            "data.shape": lambda: self.fixtures.shape,
            "schedule": Linear,
            "process": self.fixtures.process or (lambda: VariancePreserving(schedule=Linear())),
            "times": Uniform,
            "parameterization": Epsilon,
            "spacing": Trailing,
            "features": PixelFeatures,
            "dataset": lambda: data_for(self),
        }
        if source == "dataset.vocabulary":
            return self.fixtures.vocabulary or VOCABULARY
        if is_fact(source):
            return None
        if source not in supplies:
            raise ComponentError(
                f"{self.entry.id} asks for a {source}, which the conformance kit does not supply"
            )
        return supplies[source]()


def data_for(subject: ComponentUnderTest, count: int = 256) -> Dataset:
    """Data of the fixtures' shape: tokens, where the component's samples are."""
    shape, vocabulary = subject.fixtures.shape, subject.vocabulary_of(subject.cls)
    if vocabulary is None:
        return Points(shape=shape, count=count)
    return TokenData(shape=shape, count=count, vocabulary=vocabulary)


def pairs_of(subject: ComponentUnderTest, x_0: torch.Tensor) -> Batch | None:
    """These data with the conditions of the fixtures, as what samples were made of; else None."""
    condition = subject.fixtures.condition(len(x_0))
    return Batch(x_0, condition) if condition else None
