"""What the documentation says of interfaces and verbs is what the code has."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from diffkit.plugins.host import Host
from diffkit.plugins.kinds import KINDS

from .write_reference import CLI_PAGE, KINDS_PAGE, bases, blocks, helps, interface, members, written

_SECTION = re.compile(r"^## (\S+)$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r"<!-- ((?:interface|help)[^>]*) -->")
_UPDATE = "run python tests/docs/write_reference.py"

pytest.importorskip("click")


def _id(value: object) -> str:
    """The name of a block; its page and its text would be long."""
    return value if isinstance(value, str) and "\n" not in value else ""


@pytest.mark.parametrize(("page", "name", "text"), [*blocks()], ids=_id)
def test_each_generated_block_is_up_to_date(page: Path, name: str, text: str) -> None:
    assert written(page, name) == text, _UPDATE


def test_there_is_no_block_beside_them() -> None:
    expected = {(page, name) for page, name, _ in blocks()}
    for page in (KINDS_PAGE, CLI_PAGE):
        found = {(page, name) for name in _MARKER.findall(page.read_text())}
        assert found == {block for block in expected if block[0] == page}


def test_every_kind_has_a_section_in_order() -> None:
    page = _FENCE.sub("", KINDS_PAGE.read_text())
    assert _SECTION.findall(page) == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_an_example_that_is_held_to_its_laws(kind: str) -> None:
    section = KINDS_PAGE.read_text().partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    bases_in_words = "|".join(base.__name__ for base in bases(kind))
    examples = re.findall(rf"^class (\w+)\((?:{bases_in_words})\):$", section, re.MULTILINE)
    assert examples
    for example in examples:
        assert f"assert conforms({example})" in section


@pytest.mark.parametrize("kind", KINDS)
def test_an_interface_holds_all_that_is_abstract(kind: str) -> None:
    """Not by the way the page is written: each name that python wants is there, marked."""
    listed = interface(kind)
    for base in bases(kind):
        for name in base.__abstractmethods__ & vars(base).keys():
            assert re.search(
                rf"- `{name}\b.*\((?:property, |class method, )?abstract\): \S", listed
            ), name
        for name in members(base):
            assert f"- `{name}" in listed


@pytest.mark.parametrize("kind", KINDS)
def test_every_argument_of_every_method_is_listed(kind: str) -> None:
    listed = interface(kind)
    for base in bases(kind):
        for name, member in members(base).items():
            if not inspect.isfunction(member):
                continue
            arguments = [f"{a}: " for a in list(inspect.signature(member).parameters)[1:]]
            lines = [row for row in listed.splitlines() if row.startswith(f"- `{name}(")]
            assert any(all(argument in line for argument in arguments) for line in lines)


@pytest.mark.parametrize("verb", helps())
def test_every_verb_has_a_section_of_its_own(verb: str) -> None:
    page = _FENCE.sub("", CLI_PAGE.read_text())
    assert f"\n## {f'diffkit {verb}'.strip()}\n" in page


def test_help_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = helps()
    monkeypatch.setenv("COLUMNS", "40")
    assert helps() == before


def test_two_versions_side_by_side_are_as_the_page_on_stability_says(tmp_path: Path) -> None:
    page = KINDS_PAGE.with_name("stability.md").read_text()
    declared = page.partition('[project.entry-points."')[2].partition("```")[0]
    assert 'diffkit.sampler.v2"]' in declared
    entry_points = f"[{declared}".replace('[project.entry-points."', "[").replace('"', "")
    info = tmp_path / "diffkit_acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: diffkit-acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    host = Host(path=[str(tmp_path)])
    assert [str(entry.target) for entry in host.components()] == ["diffkit_acme.v1:Heun"]
    assert host.find("sampler", "acme.heun") == host.components()[0]
    (problem,) = host.problems
    assert "interface version 2 of sampler is not known here" in str(problem)
