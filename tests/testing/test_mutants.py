"""The kit is tested by components with mistakes: each is caught, and each check catches one.

`python -m tests.testing.test_mutants` writes the lists of docs/conformance.md.
"""

from __future__ import annotations

import importlib
import json
import os
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from diffkit.plugins.kinds import KINDS
from diffkit.testing import Outcome, components_under_test, run_checks
from diffkit.testing.checks import checks_of

from .mutant import Mutant

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
GROUPS = ("every", *KINDS)
UPDATE = "run python -m tests.testing.test_mutants"
NOT_BY_A_CLASS = {
    "listing_imports_nothing": "classes are not listed; tests/testing/test_kit.py has one that is"
}


def _module(group: str) -> str:
    return f".mutants_{group.replace('-', '_')}"


def mutants() -> Iterator[Mutant]:
    for group in GROUPS:
        yield from importlib.import_module(_module(group), __package__).MUTANTS


ALL = tuple(mutants())
CaughtBy = Callable[[Mutant], list[str]]


def outcomes(mutant: Mutant) -> list[Outcome]:
    component = mutant.component
    full_id = f"classes.{component.__name__.lower()}"
    # Some mistakes are random ones: what catches them must not depend on which tests ran before.
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    found = components_under_test(
        component,
        configurations={full_id: [mutant.config]},
        fixtures={full_id: mutant.fixtures},
    )
    return run_checks(found, seed=mutant.seed)


def names_of_checks(mutant: Mutant) -> list[str]:
    return [o.check.name for o in outcomes(mutant) if o.status == "failed"]


@pytest.fixture(scope="session")
def caught_by(tmp_path_factory) -> CaughtBy:
    """The checks that catch a mutant, each tried once by all processes of a test run together."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "mutants"
    folder.mkdir(exist_ok=True)

    @cache
    def names(number: int) -> list[str]:
        with FileLock(folder / f"{number}.lock"):
            known = folder / f"{number}.json"
            if not known.exists():
                known.write_text(json.dumps(names_of_checks(ALL[number])))
            return json.loads(known.read_text())

    return lambda mutant: names(ALL.index(mutant))


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_every_mutant_is_caught(mutant, caught_by) -> None:
    assert caught_by(mutant)


@pytest.mark.parametrize("group", GROUPS)
def test_every_check_catches_a_mutant(group, caught_by) -> None:
    caught = {name for mutant in ALL for name in caught_by(mutant)}
    idle = {check.name for check in checks_of(group)} - caught - NOT_BY_A_CLASS.keys()
    assert not idle


@pytest.mark.parametrize("group", GROUPS)
def test_what_the_mutants_are_made_of_is_right(group) -> None:
    module = importlib.import_module(_module(group), __package__)
    for component in getattr(module, "RIGHT", ()):
        failed = [
            o.message for o in run_checks(components_under_test(component)) if o.status == "failed"
        ]
        assert not failed


def table(caught_by: CaughtBy) -> str:
    rows = ["| Mistake | Kind | Caught by |", "| --- | --- | --- |"]
    for mutant in ALL:
        names = ", ".join(f"`{name}`" for name in caught_by(mutant))
        rows.append(f"| {mutant.mistake} | {mutant.component.kind} | {names} |")
    return "\n".join(rows)


def laws() -> str:
    lines = []
    for group in GROUPS:
        lines.append("\n**Every kind**\n" if group == "every" else f"\n**`{group}`**\n")
        lines += [f"- `{check.name}`: {check.law}." for check in checks_of(group)]
    return "\n".join(lines)


def between(page: str, name: str) -> str:
    return page.partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0].strip()


def replaced(page: str, name: str, text: str) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{rest.partition(end)[2]}"


@pytest.mark.wrong_shapes
def test_the_documented_table_is_this_one(caught_by) -> None:
    assert between(PAGE.read_text(), "mutants") == table(caught_by), UPDATE


def test_the_documented_laws_are_these() -> None:
    assert between(PAGE.read_text(), "laws") == laws().strip(), UPDATE


if __name__ == "__main__":
    torch.set_num_threads(1)
    written = replaced(PAGE.read_text(), "laws", laws())
    PAGE.write_text(replaced(written, "mutants", table(names_of_checks)))
