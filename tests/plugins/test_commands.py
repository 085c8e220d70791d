"""Verbs that plugins add to the command line."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from diffkit.cli import main as command_line
from diffkit.cli.main import cli
from diffkit.plugins.kinds import COMMANDS_GROUP

from .fake_distributions import Site, texts

SOURCE = """
import click
from diffkit.errors import DataError

@click.command("paint")
@click.argument("what")
def command(what):
    if what == "nothing":
        raise DataError("there is nothing to paint; name something")
    click.echo(f"painted {what}")

thing = 3
"""


@pytest.fixture
def added(site: Site, monkeypatch) -> Site:
    targets = {
        "paint": "acme_paint:command",
        "broken": "acme_absent:command",
        "thing": "acme_paint:thing",
        "train": "acme_paint:command",
    }
    site.add("acme", "1.0", {COMMANDS_GROUP: targets}, acme_paint=SOURCE)
    found = site.host().commands
    monkeypatch.setattr(command_line, "_added", lambda: found)
    return site


def test_a_verb_of_a_plugin_runs_like_any_other(added) -> None:
    done = CliRunner().invoke(cli, ["paint", "a boat"])
    assert (done.exit_code, done.output) == (0, "painted a boat\n")
    wrong = CliRunner().invoke(cli, ["paint", "nothing"])
    assert wrong.exit_code == 2
    assert wrong.output == "Error: there is nothing to paint; name something\n"


def test_the_help_lists_it_and_imports_nothing(added) -> None:
    import sys

    shown = CliRunner().invoke(cli, ["--help"]).output
    assert "Commands of plugins:" in shown
    assert "paint   Of acme 1.0." in shown
    assert "acme_paint" not in sys.modules


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        ("broken", "the command 'broken' of acme 1.0 cannot be imported: importing acme_absent"),
        ("thing", "acme_paint:thing is int, not a click command"),
    ],
)
def test_a_broken_verb_is_named(added, verb, message) -> None:
    done = CliRunner().invoke(cli, [verb])
    assert done.exit_code == 2
    assert message in done.output


def test_no_plugin_takes_the_place_of_a_verb(added) -> None:
    found = cli.get_command(click.Context(cli), "train")
    assert found is not None
    assert found.callback is not None
    assert found.callback.__module__ == "diffkit.cli.train"


def test_the_second_of_a_name_is_a_problem(added) -> None:
    added.add("zeta", "1.0", {COMMANDS_GROUP: {"paint": "zeta_paint:command"}}, zeta_paint=SOURCE)
    host = added.host()
    assert host.commands["paint"].origin.distribution == "acme"
    assert any("'paint' of zeta 1.0 is not used" in text for text in texts(host))


def test_a_disabled_plugin_adds_none(added) -> None:
    assert "paint" not in added.host(disabled=["acme"]).commands


def test_a_bad_target_is_a_problem(site) -> None:
    site.add("acme", "1.0", {COMMANDS_GROUP: {"paint": "acme paint"}})
    host = site.host()
    assert "paint" not in host.commands
    assert any("must be 'module:command'" in text for text in texts(host))
