"""Values that say what a pipeline is made of, before anything is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pydantic import BaseModel

from diffkit.config.spec import ComponentSpec, PipelineSpec, Provenance
from diffkit.core.component import Component
from diffkit.core.run import Run
from diffkit.errors import SpecError

UNREGISTERED = "unregistered."
"""Begins the id of an instance whose class no plugin declares; it can run but not be saved."""


class Problem(NamedTuple):
    """One sentence about what cannot work."""

    text: str
    cause: Exception | None = None
    """What a component raised, where its code failed."""
    follows: bool = False
    """Whether it may only follow from other problems, and is told where there are none."""


def problems_of(texts: Iterable[str]) -> tuple[Problem, ...]:
    """Each of these sentences as a problem."""
    return tuple(Problem(text) for text in texts)


def raise_if(problems: tuple[Problem, ...]) -> None:
    """Raise SpecError with every problem, where there is one."""
    if not problems:
        return
    first = [problem for problem in problems if not problem.follows]
    told = first or list(problems[:1])
    cause = next((problem.cause for problem in told[::-1] if problem.cause), None)
    raise SpecError(dict.fromkeys(problem.text for problem in told)) from cause


@dataclass(frozen=True, eq=False)
class Choice:
    """One component that was chosen: a class with its configuration, or an instance.

    It has all that is needed to make the component and to write it down: whoever has a choice
    needs neither the host nor a file.
    """

    kind: str
    component: type[Component]
    config: BaseModel | None = None
    """Checked. None for an instance, and where it is wrong."""
    supplied: Mapping[str, str] = field(default_factory=dict)
    """The arguments that the pipeline fills in, and with what: a kind or `data.shape`."""
    in_code: tuple[str, ...] = ()
    """The arguments that only code can give; it can be made where that was done."""
    runs: Mapping[str, Run] = field(default_factory=dict)
    """The trained runs among the arguments, by name; they are read when they are asked."""
    nested: Mapping[str, Choice] = field(default_factory=dict)
    """The components among the arguments, by their path: `weighting`, `all[0]`."""
    instance: Component | None = None
    given: Mapping[str, Any] | None = None
    """The arguments that an instance was made with."""
    described: ComponentSpec | None = None
    """With its full id and every argument, and so those within it. None where it has no spec."""
    undescribed: str = ""
    """Why an instance has none."""
    provenance: Mapping[str, Provenance] = field(default_factory=dict)
    """Where it and those within it came from, by full id."""

    @property
    def readable(self) -> bool:
        """Whether its arguments are known, though one within it may be wrong."""
        return self.config is not None or self.given is not None

    @property
    def whole(self) -> bool:
        """Whether it can be made."""
        return self.given is not None or self.described is not None

    @property
    def arguments(self) -> dict[str, Any]:
        """By name, as they were given: those that the pipeline supplies may be None."""
        if self.config is not None:
            return {name: getattr(self.config, name) for name in type(self.config).model_fields}
        return dict(self.given or {})

    def made(self, instance: Component) -> Choice:
        """The same, with the instance that was made of it."""
        return replace(self, instance=instance)

    def to_be_made_with_another(self, source: str) -> Choice:
        """The same without its instance, to be supplied anew with what comes from this source."""
        if self.given is None:
            return replace(self, instance=None)
        anew = {name for name, its_source in self.supplied.items() if its_source == source}
        given = {name: None if name in anew else value for name, value in self.given.items()}
        return replace(self, instance=None, given=given)


@dataclass(frozen=True, eq=False)
class Blueprint:
    """A pipeline by its choices. Another part is `replace`, and the same functions again."""

    choices: Mapping[str, Choice]
    """By kind; those that were readable."""
    settings: PipelineSpec | None
    """All else that the spec says: data, steps, training. None where its structure is wrong."""
    problems: tuple[Problem, ...] = ()
    """What was wrong with what was read."""
    training: Mapping[str, Choice] = field(default_factory=dict)
    """What it is trained with, by path: `optimizer`, `averages.ema`."""

    def replace(self, **choices: Choice) -> Blueprint:
        """The same with other parts, by kind."""
        return replace(self, choices={**self.choices, **choices})

    @property
    def undescribed(self) -> list[str]:
        """Why no file can describe the pipeline; empty where one can."""
        training = {f"training.{place}": choice for place, choice in self.training.items()}
        return [
            f"{where}: {choice.undescribed}"
            for where, choice in {**self.choices, **training}.items()
            if choice.undescribed
        ]
