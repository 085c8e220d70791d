from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffkit.core.spacing import Spacing
from diffkit.errors import ComponentError

from .fake_distributions import SPACING, Site, rest_works, spacing_source, texts

WHO = "spacing 'acme.mine' of acme 1.5"


@pytest.fixture(autouse=True)
def _forget_files() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("diffkit_local_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (
            "raise ValueError('no such\\ncard')",
            "importing acme_plugin raised ValueError: no such card",
        ),
        ("raise RuntimeError", "importing acme_plugin raised RuntimeError"),
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("from os import not_there", "ImportError: cannot import name 'not_there'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def (", "SyntaxError"),
        ("Other = 1", "there is no 'Mine' in acme_plugin"),
        ("def Mine(): ...", "acme_plugin:Mine is function, not a subclass of"),
        ("class Mine: ...", "acme_plugin:Mine is the class Mine, not a subclass of"),
        (
            "from diffkit.core.weighting import Unweighted as Mine",
            "acme_plugin:Mine is the class Unweighted, not a subclass of "
            "diffkit.core.spacing.Spacing",
        ),
        (
            "from diffkit.core.spacing import Spacing\nclass Mine(Spacing): ...",
            "acme_plugin:Mine is abstract; it does not define times",
        ),
        (
            "def __getattr__(name):\n    import not_there",
            "ModuleNotFoundError: No module named 'not_there'",
        ),
        ("def __getattr__(name):\n    raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_component_that_cannot_be_used(site: Site, source: str, cause: str) -> None:
    site.add("acme", "1.5", {SPACING: {"mine": "acme_plugin:Mine"}}, acme_plugin=source)
    host = site.host()
    assert [entry.id for entry in host.components("spacing")] == ["acme.mine", "good.fine"]
    for _ in range(2):
        with pytest.raises(ComponentError) as caught:
            host.resolve("spacing", "acme.mine")
        message = str(caught.value)
        assert message.startswith(WHO)
        assert cause in message
        assert "\n" not in message
    assert rest_works(host)


def test_the_cause_is_chained(site: Site) -> None:
    site.add("acme", "1.5", {SPACING: {"mine": "acme_plugin:Mine"}}, acme_plugin="1 / 0")
    with pytest.raises(ComponentError) as caught:
        site.host().resolve("spacing", "mine")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_keyboard_interrupt_is_not_taken_for_a_broken_plugin(site: Site) -> None:
    site.add(
        "acme",
        "1.5",
        {SPACING: {"mine": "acme_plugin:Mine"}},
        acme_plugin="raise KeyboardInterrupt",
    )
    with pytest.raises(KeyboardInterrupt):
        site.host().resolve("spacing", "mine")


def test_only_the_component_in_use_is_imported_and_only_once(site: Site) -> None:
    site.add(
        "acme", "1.5", {SPACING: {"mine": "acme_plugin:Mine"}}, acme_plugin=spacing_source("Mine")
    )
    host = site.host()
    found = host.resolve("spacing", "acme.mine")
    assert site.imported() == {"acme_plugin"}
    assert issubclass(found, Spacing)
    assert host.resolve("spacing", "mine") is found


def test_a_target_may_lie_inside_a_class(site: Site) -> None:
    source = spacing_source("Mine") + "\nclass Box:\n    inner = Mine\n"
    site.add("acme", "1.5", {SPACING: {"mine": "acme_plugin:Box.inner"}}, acme_plugin=source)
    assert site.host().resolve("spacing", "mine").__name__ == "Mine"


def test_a_plugin_file_gives_local_components(site: Site, tmp_path: Path) -> None:
    source = spacing_source("MyHTTPSpacing2Go") + "\nAlias = MyHTTPSpacing2Go\n"
    source += "\nclass _Hidden(MyHTTPSpacing2Go): ...\n\nclass _Half(Spacing): ...\n"
    file = tmp_path / "my file.py"
    file.write_text(source, encoding="utf-8")
    host = site.host(plugin_files=[file])
    (entry,) = [e for e in host.components("spacing") if e.origin.namespace == "local"]
    assert entry.id == "local.my_http_spacing2_go"
    assert entry.origin.sha256 == hashlib.sha256(source.encode()).hexdigest()
    assert str(entry.origin) == "the file my file.py"
    assert host.resolve("spacing", entry.name).__name__ == "MyHTTPSpacing2Go"
    assert host.entry_of(host.resolve("spacing", entry.id)) == entry
    assert texts(host) == []
    assert rest_works(host)


def test_a_plugin_file_given_twice_is_one(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "twice.py"
    file.write_text(spacing_source("Twice"), encoding="utf-8")
    host = site.host(plugin_files=[file, str(file)])
    assert host.resolve("spacing", "local.twice").__name__ == "Twice"
    assert texts(host) == []


def test_two_plugin_files_can_clash(site: Site, tmp_path: Path) -> None:
    files = [tmp_path / "one.py", tmp_path / "two.py"]
    for file in files:
        file.write_text(spacing_source("Mine"), encoding="utf-8")
    host = site.host(plugin_files=files)
    with pytest.raises(ComponentError, match=r"the file one\.py and the file two\.py"):
        host.resolve("spacing", "local.mine")
    assert rest_works(host)


def test_what_runs_is_what_was_hashed(site: Site, tmp_path: Path) -> None:
    """Python's cached bytecode is keyed by time and size: an edit can escape it."""
    file = tmp_path / "edited.py"
    for number in (1, 2):
        file.write_text(spacing_source("Mine") + f"NUMBER = {number}\n", encoding="utf-8")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        mine = site.host(plugin_files=[file]).resolve("spacing", "local.mine")
        assert vars(sys.modules[mine.__module__])["NUMBER"] == number
    assert not (tmp_path / "__pycache__").exists()


def test_a_plugin_file_keeps_its_own_annotations(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "typed.py"
    source = spacing_source("Mine") + "\ndef typed(x: int): ...\n"
    file.write_text(source, encoding="utf-8")
    mine = site.host(plugin_files=[file]).resolve("spacing", "local.mine")
    typed = vars(sys.modules[mine.__module__])["typed"]
    assert typed.__annotations__ == {"x": int}


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise ValueError('no card')", "fails: ValueError: no card"),
        ("raise SystemExit", "fails: SystemExit"),
        ("import not_there", "fails: ModuleNotFoundError"),
        ("def (", "fails: SyntaxError"),
        ("x = '\0'", "fails: "),
        ("x = 1", "defines no component class"),
        ("from diffkit.core.weighting import Unweighted", "defines no component class"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_plugin_file_that_is_of_no_use_is_an_error_at_once(
    site: Site, tmp_path: Path, source: str | None, cause: str
) -> None:
    file = tmp_path / "broken.py"
    if source is not None:
        file.write_text(source, encoding="utf-8")
    before = set(sys.modules)
    for _ in range(2):
        with pytest.raises(ComponentError) as caught:
            site.host(plugin_files=[file])
        assert str(caught.value).startswith(f"the plugin file {file} ")
        assert cause in str(caught.value)
    if "fails" in cause:
        assert not [n for n in set(sys.modules) - before if n.startswith("diffkit_local_")]
    assert rest_works(site.host())
