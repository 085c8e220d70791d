from __future__ import annotations

from pathlib import Path

import pytest

from diffkit.errors import ComponentError
from diffkit.plugins.discovery import discover
from diffkit.plugins.entries import namespace_of, normalized
from diffkit.plugins.kinds import KINDS

from .fake_distributions import HOOKS, SPACING, Site, rest_works, spacing_source, texts

DECLARED = f"[{SPACING}]\nmine = acme_plugin:Mine\n".encode()


@pytest.mark.parametrize(
    ("name", "canonical", "namespace"),
    [
        ("Acme", "acme", "acme"),
        ("diffkit-acme", "diffkit-acme", "acme"),
        ("Diffkit_Acme.Tools", "diffkit-acme-tools", "acme-tools"),
        ("diffkit", "diffkit", "diffkit"),
    ],
)
def test_names_have_one_spelling(name: str, canonical: str, namespace: str) -> None:
    assert (normalized(name), namespace_of(name)) == (canonical, namespace)


def test_a_distribution_is_read_without_an_import(site: Site) -> None:
    site.add("diffkit-acme", "1.5", {SPACING: {"mine": "acme_plugin:Mine"}, HOOKS: {"w": "acme_w"}})
    declared = {d.origin.distribution: d for d in discover([str(site.folder)])}
    acme = declared["diffkit-acme"]
    assert [entry.id for entry in acme.components] == ["acme.mine"]
    assert [str(hooks) for hooks in acme.hooks] == ["hooks 'w' of diffkit-acme 1.5"]
    assert acme.problems == ()


def test_distributions_that_have_nothing_for_us_are_left_out(site: Site) -> None:
    site.add("other", "1", {"console_scripts": {"x": "other.diffkit.x:main"}})
    assert [d.origin.distribution for d in discover([str(site.folder)])] == ["good"]


@pytest.mark.parametrize(
    ("metadata", "cause"),
    [
        (b"Metadata-Version: 2.1\nVersion: 1.5\n", "no name"),
        (b"Metadata-Version: 2.1\nName: acme\n", "no version"),
        (b"Metadata-Version: 2.1\nName: acme\xff\xfe\nVersion: 1.5\n", "codec can't decode"),
        (b"Metadata-Version: 2.1\nName: ac me!\nVersion: 1.5\n", "'ac me!' is no distribution's"),
        (b"", "METADATA"),
        (None, "METADATA"),
    ],
)
def test_broken_metadata_are_a_problem_of_that_distribution(
    site: Site, metadata: bytes | None, cause: str
) -> None:
    site.add_raw("acme", "1.5", DECLARED, metadata, acme_plugin=spacing_source("Mine"))
    host = site.host()
    (problem,) = texts(host)
    assert problem.startswith("acme 1.5: ")
    assert cause in problem
    with pytest.raises(ComponentError) as caught:
        host.resolve("spacing", "acme.mine")
    assert problem in str(caught.value)
    assert rest_works(host)
    assert "acme_plugin" not in site.imported()


@pytest.mark.parametrize(
    "entry_points",
    [
        f"[{SPACING}]\nthis line says nothing\n".encode(),
        f"[{SPACING}]\nmine = \xff\xfe\n".encode("latin-1"),
    ],
)
def test_unreadable_entry_points_are_a_problem_of_that_distribution(
    site: Site, entry_points: bytes
) -> None:
    site.add_raw("acme", "1.5", entry_points)
    host = site.host()
    (problem,) = texts(host)
    assert problem.startswith("acme 1.5: entry_points.txt cannot be")
    assert rest_works(host)


def test_entries_outside_every_group_do_no_harm(site: Site) -> None:
    site.add_raw("acme", "1.5", b"mine = acme:Mine\n" + DECLARED)
    host = site.host()
    assert texts(host) == []
    assert host.find("spacing", "acme.mine").target == "acme_plugin:Mine"


def test_a_disabled_distribution_with_broken_metadata_is_not_a_problem(site: Site) -> None:
    site.add_raw("acme", "1.5", DECLARED, b"Metadata-Version: 2.1\n")
    assert texts(site.host(disabled=["acme"])) == []


@pytest.mark.parametrize("name", ["diffkit-local", "local", "Local", "diffkit-diffkit"])
def test_reserved_namespaces_are_refused(site: Site, name: str) -> None:
    site.add(name, "1.5", {SPACING: {"mine": "acme_plugin:Mine"}})
    host = site.host()
    (problem,) = texts(host)
    assert problem.startswith(f"{name} 1.5: the namespace '{namespace_of(name)}' is reserved")
    with pytest.raises(ComponentError, match="reserved"):
        host.resolve("spacing", f"{namespace_of(name)}.mine")
    assert rest_works(host)


def test_the_first_of_two_on_the_path_wins(site: Site, tmp_path: Path) -> None:
    later = Site(tmp_path / "later")
    site.add("acme", "2.0", {SPACING: {"new": "acme_plugin:New"}})
    later.add("Acme", "1.0", {SPACING: {"old": "acme_plugin:Old"}})
    declared = list(discover([str(site.folder), str(later.folder), str(site.folder)]))
    assert sorted(str(d.origin) for d in declared) == ["acme 2.0", "good 2.0"]


def test_the_first_wins_even_if_it_declares_nothing(site: Site, tmp_path: Path) -> None:
    later = Site(tmp_path / "later")
    site.add("diffkit-acme", "2.0", {})
    later.add("diffkit-acme", "1.0", {SPACING: {"old": "acme_plugin:Old"}})
    declared = discover([str(site.folder), str(later.folder)])
    assert [d.origin.distribution for d in declared] == ["good"]


@pytest.mark.parametrize("group", ["diffkit.smapler.v1", "diffkit.spacing", "diffkit.hooks.v2"])
def test_an_unknown_kind_is_named_with_the_known_ones(site: Site, group: str) -> None:
    site.add("acme", "1.5", {group: {"mine": "acme_plugin:Mine"}})
    host = site.host()
    (problem,) = texts(host)
    assert problem.startswith(f"acme 1.5: mine = acme_plugin:Mine in the group {group}: no such")
    assert all(kind.group in problem for kind in KINDS.values())
    assert rest_works(host)


def test_an_interface_version_that_is_not_known(site: Site) -> None:
    site.add(
        "acme",
        "1.5",
        {"diffkit.spacing.v9": {"mine": "acme_plugin:Mine"}, SPACING: {"other": "acme_plugin:O"}},
    )
    host = site.host()
    (problem,) = texts(host)
    assert problem.startswith("acme 1.5: ")
    assert "interface version 9 of spacing is not known here; this diffkit has version 1" in problem
    for name in ("acme.mine", "mine"):
        with pytest.raises(ComponentError) as caught:
            host.resolve("spacing", name)
        assert problem in str(caught.value)
    assert host.find("spacing", "acme.other").name == "other"
    assert rest_works(host)


def test_an_absurdly_long_version_number_does_not_kill_the_host(site: Site) -> None:
    site.add("acme", "1.5", {f"diffkit.spacing.v{'9' * 5000}": {"mine": "acme_plugin:Mine"}})
    host = site.host()
    assert "no such kind" in texts(host)[0]
    assert rest_works(host)


@pytest.mark.parametrize(
    ("name", "target", "cause"),
    [
        ("Mine", "acme_plugin:Mine", "must be made of a-z"),
        ("my.own", "acme_plugin:Mine", "hold no dot"),
        ("mine!", "acme_plugin:Mine", "must be made of a-z"),
        ("mine", "acme_plugin", "must be 'module:class'"),
        ("mine", "acme plugin:Mine", "must be 'module:class'"),
        ("mine", "acme_plugin:Mine [extra]", "must be 'module:class'"),
        ("mine", "", "must be 'module:class'"),
    ],
)
def test_bad_names_and_targets(site: Site, name: str, target: str, cause: str) -> None:
    site.add("acme", "1.5", {SPACING: {name: target, "sound": "acme_plugin:Sound"}})
    host = site.host()
    (problem,) = texts(host)
    assert problem.startswith(f"acme 1.5: {name} = {target} in the group {SPACING}: ")
    assert cause in problem
    with pytest.raises(ComponentError) as caught:
        host.find("spacing", f"acme.{name}")
    assert problem in str(caught.value)
    assert host.find("spacing", "acme.sound").name == "sound"
    assert rest_works(host)


def test_a_hooks_target_must_be_a_module(site: Site) -> None:
    site.add("acme", "1.5", {HOOKS: {"watch": "acme_plugin:Watch"}})
    host = site.host()
    (problem,) = texts(host)
    assert problem.startswith("acme 1.5: watch = acme_plugin:Watch")
    assert "must be a module" in problem
    assert host.hooks == ()
    assert rest_works(host)
