"""A check: one law, and a function that measures whether a component keeps it."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

import diffkit
from diffkit.testing.component_under_test import CannotBeMade, ComponentUnderTest
from diffkit.testing.laws import LawBroken, NotApplicable

NEVER_EXEMPT = ("it_can_be_made", "exemptions_name_laws_and_say_why")
EXEMPT = "exempt, as it says: "
"""Begins the message of a law that a component declares that it cannot keep."""

_PERHAPS = """it is asked as diffkit asks any of its kind: if it needs samples of another shape, \
conditions, inputs or a process of its own, give `examples()` that say so"""


@dataclass(frozen=True)
class Check:
    """One law of one kind of component; called with a subject, it raises where that breaks it."""

    name: str
    law: str
    """The law in one sentence."""
    measure: Callable[[ComponentUnderTest], None]

    def __call__(self, subject: ComponentUnderTest) -> None:
        """Measure.

        Raises:
            LawBroken: with the numbers. An exception of the component's counts too.
            NotApplicable: the law says nothing about this component.
        """
        try:
            # The kit's tensors are small: threads would wait for each other, not help.
            # Generators that yield inside a mode and go on in turn leave it changed behind them.
            if self.name not in NEVER_EXEMPT and (reason := subject.cls.exempt.get(self.name)):
                raise NotApplicable(f"{EXEMPT}{reason}")
            with _on_one_thread(), torch.enable_grad(), torch.autocast("cpu", enabled=False):
                self.measure(subject)
        except NotApplicable:
            raise
        except LawBroken as broken:
            broken.subject, broken.law = str(subject), self.law
            raise
        except CannotBeMade as error:
            # One check says so; the rest would only repeat it.
            raise NotApplicable(f"it cannot be made: {error}") from error
        except Exception as error:
            raised = LawBroken(
                f"it raised an exception{_place(error)}",
                measured=f"{type(error).__name__}: {error}",
                expected="no exception",
                why="" if subject.fixtures.gives_forms else _PERHAPS,
            )
            raised.subject, raised.law = str(subject), self.law
            raise raised from error


@contextlib.contextmanager
def _on_one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _place(error: Exception) -> str:
    """The innermost line of the traceback that is neither diffkit's nor torch's; if any."""
    ours = tuple(str(Path(module.__file__ or "").parent) for module in (diffkit, torch))
    frames = traceback.extract_tb(error.__traceback__)
    others = [f for f in frames if not f.filename.startswith((*ours, "<"))] or frames
    return f" in {others[-1].filename}:{others[-1].lineno}, {others[-1].name}" if others else ""


def check(measure: Callable[[ComponentUnderTest], None]) -> Check:
    """Make a check of a function; its name is the check's, its docstring's first line the law."""
    law = (inspect.getdoc(measure) or "").partition("\n")[0].rstrip(".")
    if not law:
        raise TypeError(f"{measure.__name__} has no docstring, which has to state the law")
    return Check(measure.__name__, law, measure)
