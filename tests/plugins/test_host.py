from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffkit.errors import ComponentError
from diffkit.plugins.host import Host

from .fake_distributions import HOOKS, SPACING, Site, rest_works, spacing_source, texts

MINE = {SPACING: {"mine": "acme_plugin:Mine"}}


def run_python(code: str, *arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "DIFFKIT_DISABLE"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_listing_leaves_everything_heavy_unimported(site: Site) -> None:
    site.add("acme", "1.5", {**MINE, HOOKS: {"watch": "acme_hooks"}}, acme_plugin="", acme_hooks="")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from diffkit.plugins.host import Host\n"
        "host = Host()\n"
        "ids = {entry.id for entry in host.components()}\n"
        "assert {'acme.mine', 'good.fine', 'diffkit.cosine'} <= ids, ids\n"
        "assert host.hooks and host.find('spacing', 'mine')\n"
        "heavy = {'torch', 'pydantic', 'numpy', 'acme_plugin', 'acme_hooks', 'good_plugin'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "print([m for m in sys.modules if m.startswith(('diffkit.core', 'diffkit.bundled'))])\n"
    )
    assert run_python(code, str(site.folder)).split("\n")[:2] == ["[]", "[]"]


def test_importing_diffkit_costs_nothing() -> None:
    code = (
        "import sys, diffkit\n"
        "print(sorted({'torch', 'pydantic', 'numpy', 'pluggy'} & set(sys.modules)))\n"
        "print([m for m in sys.modules if m.startswith('diffkit.')])\n"
    )
    assert run_python(code).split("\n")[:2] == ["[]", "[]"]


def test_components_are_sorted_by_kind_and_id(site: Site) -> None:
    site.add(
        "acme",
        "1.5",
        {SPACING: {"z": "a:Z", "a": "a:A"}, "diffkit.schedule.v1": {"s": "a:S"}},
    )
    host = site.host()
    assert [e.id for e in host.components()] == ["acme.s", "acme.a", "acme.z", "good.fine"]
    assert [e.id for e in host.components("schedule")] == ["acme.s"]


def test_unknown_names_and_kinds_get_a_hint(site: Site) -> None:
    host = site.host()
    with pytest.raises(ComponentError, match=r"'good\.fime'; did you mean 'good\.fine'\? install"):
        host.find("spacing", "good.fime")
    with pytest.raises(ComponentError, match="no model is called 'x'; installed: none"):
        host.find("model", "x")
    for ask in (lambda: host.find("spaceing", "fine"), lambda: host.components("spaceing")):
        with pytest.raises(ComponentError, match="no kind 'spaceing'; did you mean 'spacing'"):
            ask()


def test_a_clash_leaves_that_id_unresolved_and_nothing_else(site: Site) -> None:
    site.add("acme", "1.5", {SPACING: {"mine": "a_plugin:Mine", "only": "a_plugin:Only"}})
    site.add("diffkit-acme", "2.5", {SPACING: {"mine": "b_plugin:Mine"}, HOOKS: {"w": "b_hooks"}})
    host = site.host()
    (problem,) = host.problems
    assert (problem.kind, problem.id) == ("spacing", "acme.mine")
    for name in ("acme.mine", "mine"):
        with pytest.raises(ComponentError, match=r"declared by acme 1\.5 and diffkit-acme 2\.5"):
            host.resolve("spacing", name)
    assert [e.id for e in host.components()] == ["acme.only", "good.fine"]
    assert host.find("spacing", "only").origin.version == "1.5"
    assert rest_works(host)


def test_disabling_one_side_ends_a_clash(site: Site) -> None:
    site.add("acme", "1.5", MINE)
    site.add("diffkit-acme", "2.5", MINE)
    host = site.host(disabled=["diffkit-acme"])
    assert texts(host) == []
    assert host.find("spacing", "mine").origin.distribution == "acme"


def test_one_id_may_serve_two_kinds(site: Site) -> None:
    site.add("acme", "1.5", {**MINE, "diffkit.times.v1": {"mine": "acme_plugin:T"}})
    host = site.host()
    assert host.find("times", "mine").id == host.find("spacing", "mine").id
    assert texts(host) == []


def test_one_declaration_written_twice_is_one(site: Site) -> None:
    site.add_raw("acme", "1.5", f"[{SPACING}]\nmine = a:B\nmine = a:B\n".encode())
    host = site.host()
    assert host.find("spacing", "mine").target == "a:B"
    assert texts(host) == []


def test_a_distribution_that_clashes_with_itself_is_told_so(site: Site) -> None:
    site.add_raw("acme", "1.5", f"[{SPACING}]\nmine = a:B\nmine = a:C\n".encode())
    host = site.host()
    with pytest.raises(ComponentError, match=r"twice by acme 1\.5, as a:B and a:C; rename one"):
        host.find("spacing", "mine")
    assert rest_works(host)


def test_an_ambiguous_short_name_names_the_choices(site: Site) -> None:
    site.add("acme", "1.5", MINE)
    site.add("beta", "1.5", {SPACING: {"mine": "beta_plugin:Mine"}})
    host = site.host()
    with pytest.raises(ComponentError, match=r"acme\.mine \(of acme 1\.5\) or beta\.mine"):
        host.find("spacing", "mine")
    assert host.find("spacing", "beta.mine").origin.distribution == "beta"
    assert texts(host) == []
    assert rest_works(host)


@pytest.mark.parametrize("name", ["diffkit-acme", "acme", "Diffkit_Acme", " diffkit.acme "])
@pytest.mark.parametrize("by_environment", [False, True])
def test_a_disabled_plugin_is_blocked_before_anything_loads(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str, by_environment: bool
) -> None:
    site.add(
        "diffkit-acme",
        "1.5",
        {**MINE, HOOKS: {"watch": "acme_hooks"}},
        acme_plugin=spacing_source("Mine"),
        acme_hooks="",
    )
    if by_environment:
        monkeypatch.setenv("DIFFKIT_DISABLE", f"{name},")
    host = site.host(disabled=() if by_environment else [name])
    assert [e.id for e in host.components()] == ["good.fine"]
    assert host.load_hooks() == ()
    for asked in ("acme.mine", "mine"):
        with pytest.raises(ComponentError) as caught:
            host.resolve("spacing", asked)
        assert "'acme.mine' of diffkit-acme 1.5 is disabled" in str(caught.value)
    assert texts(host) == []
    assert rest_works(host)
    assert site.imported() == {"good_plugin"}


def test_a_namespace_disables_every_distribution_in_it(site: Site) -> None:
    site.add("acme", "1.5", MINE)
    site.add("diffkit-acme", "2.5", {SPACING: {"other": "acme_plugin:Other"}})
    host = site.host(disabled=["acme"])
    assert [e.id for e in host.components()] == ["good.fine"]
    assert texts(host) == []


def test_argument_and_environment_add_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("acme", "1.5", MINE)
    site.add("beta", "1.5", {SPACING: {"b": "beta_plugin:B"}})
    monkeypatch.setenv("DIFFKIT_DISABLE", "beta")
    assert [e.id for e in site.host(disabled=["acme"]).components()] == ["good.fine"]


def test_disabling_what_is_not_installed_is_reported(site: Site) -> None:
    host = site.host(disabled=["not-there"])
    assert texts(host) == ["not-there: it is to be disabled, but it is not installed"]
    assert rest_works(host)


def test_a_broken_component_does_not_hide_its_sound_namesake(site: Site) -> None:
    site.add("acme", "1.5", {"diffkit.spacing.v9": {"mine": "acme_plugin:Mine"}})
    site.add("beta", "1.5", {SPACING: {"mine": "beta_plugin:Mine"}})
    assert site.host().find("spacing", "mine").id == "beta.mine"


def test_entry_of(site: Site) -> None:
    source = spacing_source("Mine") + "\nclass Unlisted(Mine): ...\n"
    site.add(
        "acme",
        "1.5",
        {SPACING: {"an": "acme_plugin.other:Other", "mine": "acme_plugin:Mine"}},
        acme_plugin=source + "\n__path__ = [__file__.rpartition('acme')[0]]\n",
        other="",
    )
    host = site.host()
    import acme_plugin  # type: ignore[import-not-found]

    assert host.entry_of(acme_plugin.Mine) == host.find("spacing", "acme.mine")
    assert host.entry_of(acme_plugin.Unlisted) is None
    assert host.entry_of(int) is None
    assert "acme_plugin.other" not in sys.modules


def test_entry_of_finds_a_class_under_another_name_or_package(site: Site) -> None:
    site.add(
        "acme",
        "1.5",
        {SPACING: {"far": "acme_plugin:Far", "alias": "acme_plugin:Alias"}},
        acme_plugin="from acme_engine import Far\n" + spacing_source("Own") + "Alias = Own\n",
        acme_engine=spacing_source("Far"),
    )
    host = site.host()
    for name in ("far", "alias"):
        found = host.resolve("spacing", name)
        assert host.entry_of(found) == host.find("spacing", name)
    fresh = Host(path=[str(site.folder)])
    assert fresh.entry_of(host.resolve("spacing", "far")) == host.find("spacing", "far")


def test_entry_of_is_not_disturbed_by_a_broken_neighbour(site: Site) -> None:
    site.add(
        "acme",
        "1.5",
        {SPACING: {"a": "acme_plugin.gone:Mine", "mine": "acme_plugin:Mine"}},
        acme_plugin=spacing_source("Mine"),
    )
    host = site.host()
    mine = host.resolve("spacing", "acme.mine")
    entry = Host(path=[str(site.folder)]).entry_of(mine)
    assert entry == host.find("spacing", "acme.mine")


def test_entry_of_a_class_of_no_kind(site: Site) -> None:
    class Stranger:
        kind = "not a kind"

    assert site.host().entry_of(Stranger) is None


def test_hosts_do_not_share_anything(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "here.py"
    file.write_text(spacing_source("Here"), encoding="utf-8")
    with_file, without = site.host(plugin_files=[file]), site.host()
    assert with_file.find("spacing", "local.here").name == "here"
    with pytest.raises(ComponentError, match="no spacing is called"):
        without.find("spacing", "local.here")


def test_the_bundled_components_come_in_by_the_same_road() -> None:
    host = Host()
    assert host.resolve("schedule", "diffkit.cosine").__name__ == "Cosine"
    assert not [problem for problem in host.problems if problem.origin.distribution == "diffkit"]
