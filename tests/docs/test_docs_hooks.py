"""Every hook, kind, verb and bundled component is documented, as it is."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from diffkit import core
from diffkit.plugins import hookspecs
from diffkit.plugins.entries import ComponentEntry
from diffkit.plugins.host import default_host
from diffkit.plugins.kinds import KINDS

ROOT = Path(__file__).parents[2]
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("diffkit_")}


def _bundled() -> list[ComponentEntry]:
    found = [e for e in default_host().components() if e.origin.distribution == "diffkit"]
    assert found
    return found


def test_there_are_hooks() -> None:
    assert "diffkit_register" in HOOKS


@pytest.mark.parametrize("name", HOOKS)
def test_each_hook_is_documented_with_its_signature(name: str) -> None:
    signature = inspect.signature(HOOKS[name])
    # The annotations are strings, which `str(signature)` would put in quotes.
    arguments = ", ".join(f"{p.name}: {p.annotation}" for p in signature.parameters.values())
    written = f"`{name}({arguments}) -> {signature.return_annotation}`"
    assert f"| {written} |" in EXTENDING


def test_no_hook_is_documented_that_does_not_exist() -> None:
    rows = [line for line in EXTENDING.splitlines() if line.startswith("| `diffkit_")]
    assert sorted(row[3:].partition("(")[0] for row in rows) == sorted(HOOKS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_each_kind_is_in_the_table_with_its_base_class(kind) -> None:
    base = kind.interface.partition(":")[2]
    assert f"| `{kind.name}` | `{base}`" in EXTENDING
    assert base in core.__all__  # where the page says that it is


def test_the_version_that_is_documented_is_that_of_every_kind() -> None:
    assert "all are at 1" in EXTENDING
    assert {kind.version for kind in KINDS.values()} == {1}


def test_each_verb_is_documented() -> None:
    verbs = pytest.importorskip("diffkit.cli.main").VERBS
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    for verb in verbs:
        assert f"- `{verb}` " in tutorial, verb
        assert f"diffkit {verb}" in tutorial, verb


def test_each_bundled_component_is_in_the_readme() -> None:
    rows = {
        line.split("|")[1].strip(" `"): line
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("| `")
    }
    for entry in _bundled():
        assert f"`{entry.name}`" in rows[entry.kind], str(entry)


def test_each_module_of_a_component_is_in_the_reference() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    for entry in _bundled():
        module = str(entry.target).partition(":")[0]
        assert f"::: {module}\n" in pages, str(entry)
