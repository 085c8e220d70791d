"""What launchers say in the environment, and what others leave there."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import click
import pytest
from torch.distributed.run import get_args_parser

from diffkit.cli.main import cli
from diffkit.distributed import launcher
from diffkit.errors import ComponentError

VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def _set(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("count", ["", " ", "0", "1", None])
@pytest.mark.parametrize("rank", ["", "0", "7", None])
def test_a_process_is_alone_whatever_rank_was_left(
    monkeypatch: pytest.MonkeyPatch, count: str | None, rank: str | None
) -> None:
    given = {"WORLD_SIZE": count, "RANK": rank, "LOCAL_RANK": rank}
    _set(monkeypatch, **{name: value for name, value in given.items() if value is not None})
    assert launcher.local_rank() is None
    assert launcher.rank() == 0
    assert not launcher.launched()


def test_one_of_several_knows_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, WORLD_SIZE="4", RANK="3", LOCAL_RANK="1", MASTER_ADDR="a", MASTER_PORT="1")
    assert (launcher.launched(), launcher.rank(), launcher.local_rank()) == (True, 3, 1)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE is '-2'"),
        ({"WORLD_SIZE": "4"}, "RANK is not set; unset WORLD_SIZE"),
        ({"WORLD_SIZE": "4", "RANK": ""}, "RANK is not set"),
        ({"WORLD_SIZE": "4", "RANK": "1"}, "MASTER_ADDR is not set"),
        (
            {"WORLD_SIZE": "4", "RANK": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            "RANK is 4, and of WORLD_SIZE = 4",
        ),
    ],
)
def test_what_no_launcher_says_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    _set(monkeypatch, **variables)
    with pytest.raises(ComponentError, match=words):
        launcher.local_rank()
    launcher.launched()  # It is asked on the way out, where nothing may fail.


def _options() -> Iterator[tuple[str, str, bool]]:
    """Each verb, each option, and whether it has another spelling."""
    context = click.Context(cli)
    for verb in cli.list_commands(context):
        command = cli.get_command(context, verb)
        assert command is not None
        for parameter in command.params:
            for spelling in parameter.opts:
                if spelling.startswith("-"):
                    yield verb, spelling, len(parameter.opts) > 1


def test_every_option_can_be_given_through_torchrun() -> None:
    """`torchrun` reads what follows the module for abbreviations of its own options."""
    eaten = []
    for verb, option, another in _options():
        words = [verb, "x", option, "5"]
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                found = get_args_parser().parse_args(["-m", "diffkit", *words])
            except SystemExit:
                found = None
        if found is None or found.training_script_args != words:
            eaten.append((verb, option))
            assert another, f"{verb} {option} needs another spelling"
    assert {option for _, option in eaten} <= {"--num"}
