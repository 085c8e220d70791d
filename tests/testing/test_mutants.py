"""The kit is tested by components with mistakes: each is caught, and each check catches one.

`python tests/testing/test_mutants.py` writes the table of docs/conformance.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from mutant import Mutant

from diffkit.plugins.kinds import KINDS
from diffkit.testing import Outcome, run_checks, subjects
from diffkit.testing.checks import checks_of

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
BEGIN, END = "<!-- mutants -->", "<!-- end of mutants -->"
GROUPS = ("every", *KINDS)
NOT_BY_A_CLASS = {
    "listing_imports_nothing": "classes are not listed; tests/testing/test_kit.py has one that is"
}


def mutants() -> Iterator[Mutant]:
    for group in GROUPS:
        yield from importlib.import_module(f"mutants_{group}").MUTANTS


@cache
def outcomes(component: type, config: str = "") -> tuple[Outcome, ...]:
    mutant = next(m for m in mutants() if m.component is component and str(m.config) == config)
    full_id = f"classes.{component.__name__.lower()}"
    return tuple(
        run_checks(subjects(component, configurations={full_id: [mutant.config]}), seed=mutant.seed)
    )


def caught_by(mutant: Mutant) -> list[str]:
    found = outcomes(mutant.component, str(mutant.config))
    return [o.check.name for o in found if o.status == "failed"]


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_every_mutant_is_caught(mutant) -> None:
    assert caught_by(mutant)


@pytest.mark.parametrize("group", GROUPS)
def test_every_check_catches_a_mutant(group) -> None:
    caught = {name for mutant in mutants() for name in caught_by(mutant)}
    idle = {check.name for check in checks_of(group)} - caught - NOT_BY_A_CLASS.keys()
    assert not idle


@pytest.mark.parametrize("group", GROUPS)
def test_what_the_mutants_are_made_of_is_right(group) -> None:
    for component in getattr(importlib.import_module(f"mutants_{group}"), "RIGHT", ()):
        failed = [o.message for o in run_checks(subjects(component)) if o.status == "failed"]
        assert not failed


def table() -> str:
    rows = ["| Mistake | Kind | Caught by |", "| --- | --- | --- |"]
    for mutant in mutants():
        names = ", ".join(f"`{name}`" for name in caught_by(mutant))
        rows.append(f"| {mutant.mistake} | {mutant.component.kind} | {names} |")
    return "\n".join(rows)


def test_the_documented_table_is_this_one() -> None:
    written = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert written == table(), "run python tests/testing/test_mutants.py"


def test_every_check_is_documented_with_its_law() -> None:
    page = PAGE.read_text()
    for group in GROUPS:
        for check in checks_of(group):
            assert f"- `{check.name}`: {check.law}" in page


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}")
