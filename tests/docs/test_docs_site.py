"""The site has every page in its navigation, formulas that it can draw, and output as it is."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from .test_docs_code import blocks_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
VENDOR = DOCS / "vendor"
PAGES = sorted(DOCS.rglob("*.md"))
IMAGES = sorted((DOCS / "images").glob("*.png"))
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_BEGIN = (r"\begin", r"\end")
_FORMULA = re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def formulas(page: Path) -> list[str]:
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    return [inline or display for inline, display in _FORMULA.findall(text)]


def navigation(entry: object) -> list[str]:
    """The pages of a part of the navigation, in order."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    assert hasattr(parts, "__iter__")
    return [page for part in parts for page in navigation(part)]


def test_every_page_is_in_the_navigation_once() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    pages = [page.relative_to(DOCS).as_posix() for page in PAGES]
    assert sorted(navigation(site["nav"])) == pages


def test_there_are_formulas() -> None:
    assert len(formulas(DOCS / "concepts.md")) > 50


@pytest.mark.parametrize("page", [p for p in PAGES if formulas(p)], ids=lambda page: page.stem)
def test_every_command_of_a_formula_is_one_that_is_drawn(page: Path) -> None:
    """Each is a word of the KaTeX that comes with the site, and braces are in pairs."""
    known = (VENDOR / "katex" / "katex.min.js").read_text(encoding="utf-8")
    for formula in formulas(page):
        for command in re.findall(r"\\[a-zA-Z]+|\\.", formula):
            quoted = command.replace("\\", "\\\\")
            assert f'"{quoted}"' in known or command in _BEGIN, f"{command} in {formula}"
        assert formula.count("{") == formula.count("}"), formula


def test_every_delimiter_of_a_formula_has_its_pair() -> None:
    for page in PAGES:
        text = _CODE.sub("", page.read_text(encoding="utf-8"))
        rest = _FORMULA.sub("", text)
        assert not re.search(r"\\[()\[\]]", rest), page


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.stem)
def test_every_picture_is_in_the_gallery(image: Path) -> None:
    gallery = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert f"](images/{image.name})" in gallery


def test_the_scripts_that_the_gallery_names_are_there() -> None:
    gallery = (DOCS / "gallery.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:tests|plugins|docs)/[\w/-]+\.(?:py|yaml)", gallery))
    assert named
    for path in named:
        assert (ROOT / path).exists(), path


def test_what_others_made_has_its_licence() -> None:
    for folder in VENDOR.iterdir():
        assert folder.name == "README.txt" or (folder / "LICENSE").exists(), folder


def test_the_front_page_shows_the_error_that_there_is() -> None:
    blocks = blocks_of(DOCS / "index.md")
    (place,) = [i for i, block in enumerate(blocks) if block.text.startswith("the spec cannot")]
    module = ModuleType("shown")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        source = "import diffkit\n" + blocks[place - 1].text
        exec(compile(source, "index.md", "exec"), module.__dict__)
    assert printed.getvalue() == blocks[place].text
