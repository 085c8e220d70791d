"""Odd values of every option: a message and exit code 2, or what was asked for, no traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import diffkit
from diffkit.cli.main import cli

SPEC = {
    "schedule": {"id": "diffkit.cosine", "config": {"steps": 4}},
    "process": "diffkit.variance-preserving",
    "model": {"id": "diffkit.mlp", "config": {"width": 8, "depth": 1}},
    "loss": "diffkit.simple",
    "sampler": "diffkit.ddpm",
    "dataset": "diffkit.digits",
    "training": {"batch_size": 4, "steps": 1, "warmup_steps": 0},
}
RIGHT = {
    "list": [],
    "show": ["sampler", "diffkit.ddpm"],
    "train": ["spec.json", "--out", "new"],
    "sample": ["run", "--out", "x.npz", "-n", "1"],
    "eval": ["run", "--metric", "diffkit.bits-per-dim"],
    "check": ["diffkit.trailing"],
    "new-plugin": ["acme"],
}
"""The words that each verb needs. `demo` and `doctor` take a minute, and the same options."""
ODD = (
    "",
    " ",
    "-1",
    "0",
    "nan",
    "1e999",
    "{",
    "{id: 3}",
    "[]",
    "~",
    "~/x",
    "\x1b]0;x\x07",
    "\udcff",
)


def _cases() -> Iterator[tuple[str, str]]:
    context = click.Context(cli)
    for verb in RIGHT:
        command = cli.get_command(context, verb)
        assert command is not None
        for parameter in command.params:
            if not isinstance(parameter, click.Option) or parameter.is_flag:
                continue
            if verb == "list" or parameter.name not in ("disabled", "plugin_files"):
                yield verb, parameter.opts[-1]


QUICK = ("list", "show", "sample", "new-plugin")
"""Of the others fewer values, since those that are right take their time."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("values")
    (found / "spec.json").write_text(json.dumps(SPEC), encoding="utf-8")
    diffkit.build(SPEC).train(out=found / "run", progress=False)
    return found


@pytest.mark.parametrize(("verb", "option"), _cases())
def test_an_odd_value_is_a_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: str, option: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ODD if verb in QUICK else ODD[-4:]:
        words = [w for w in RIGHT[verb] if option not in ("--num", "-n") or w not in ("-n", "1")]
        done = CliRunner().invoke(cli, [verb, *words, option, value])
        # 1 is what `check` ends with where a law is broken.
        assert done.exit_code in (0, 2) or verb == "check", (value, done.output, done.exception)
        assert "unexpected" not in done.output, (value, done.output)
        assert "Traceback" not in done.output
        _clean(folder)


@pytest.mark.parametrize("verb", RIGHT)
def test_odd_words_are_a_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    for position, word in enumerate(RIGHT[verb]):
        if position and RIGHT[verb][position - 1].startswith("-"):
            continue
        for value in ODD:
            if word.startswith("-"):
                continue
            words = [*RIGHT[verb][:position], value, *RIGHT[verb][position + 1 :]]
            done = CliRunner().invoke(cli, [verb, *words])
            assert done.exit_code == 2, (value, done.output, done.exception)
            assert "unexpected" not in done.output, (value, done.output)
            _clean(folder)


def _clean(folder: Path) -> None:
    """What a value made after all must not stand in the way of the next."""
    import shutil

    for path in folder.iterdir():
        if path.name not in ("spec.json", "run"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
