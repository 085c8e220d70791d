"""What a message tells one to do can be done."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from diffkit.cli.main import cli
from diffkit.config.spec import DataSpec, PipelineSpec, TrainingSpec
from diffkit.plugins.kinds import VERBS

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "diffkit", *sorted((ROOT / "plugins").glob("*/src"))]


def _texts() -> Iterator[tuple[str, str]]:
    """Every text in the code, those in f-strings too, with its file."""
    for source in SOURCES:
        for file in sorted(source.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield str(file.relative_to(ROOT)), node.value


def _found(pattern: str) -> set[tuple[str, ...]]:
    return {match.groups() for _, text in _texts() for match in re.finditer(pattern, text)}


def test_extras_to_install_are_there() -> None:
    extras = {
        (project["name"], extra)
        for file in (ROOT / "pyproject.toml", *sorted((ROOT / "plugins").glob("*/pyproject.toml")))
        for project in [tomllib.loads(file.read_text(encoding="utf-8"))["project"]]
        for extra in project.get("optional-dependencies", {})
    }
    found = _found(r"pip install '(diffkit[\w-]*)\[(\w+)\]'")
    assert len(found) >= 4
    assert found <= extras


def test_verbs_and_options_are_there() -> None:
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    options = {
        spelling
        for command in commands.values()
        if command is not None
        for parameter in command.params
        for spelling in (*parameter.opts, *parameter.secondary_opts)
    }
    assert set(VERBS) <= set(commands)
    assert {verb for (verb,) in _found(r"`diffkit ([a-z][a-z-]+)")} <= set(commands)
    named = {option for (option,) in _found(r"(?<![\w-])(--[a-z][a-z-]+)(?![\w])")}
    foreign = {"--help", "--nproc-per-node", "--version", "--scheduler"}
    assert named - foreign <= options


def test_keys_to_set_are_there() -> None:
    known = {"training": TrainingSpec, "data": DataSpec}
    found = _found(r"\b(training|data)\.([a-z_]+)\b")
    assert len(found) >= 6
    facts = {("data", "latents"), ("training", "adds")}
    for section, key in found - {("training", "safetensors"), ("training", "ema_decay")} - facts:
        assert key in known[section].model_fields, f"{section}.{key}"
    for (key,) in _found(r"\bset (encoder|autoencoder|dataset|guidance)\b"):
        assert key in PipelineSpec.model_fields


# -- advice that is carried out -------------------------------------------------------------------

SPEC: dict[str, Any] = {
    "schedule": {"id": "diffkit.cosine", "config": {"steps": 4}},
    "process": "diffkit.variance-preserving",
    "model": {"id": "diffkit.mlp", "config": {"width": 8, "depth": 1}},
    "loss": "diffkit.simple",
    "sampler": "diffkit.ddpm",
    "dataset": "diffkit.digits",
    "training": {"batch_size": 4, "steps": 2, "warmup_steps": 0, "log_every": 1},
}
LOCAL = """
from diffkit.core.weighting import Weighting


class Mine(Weighting):
    error = "epsilon"
    def weight(self, log_snr):
        return log_snr * 0 + 1
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "a folder, it's mine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    _write(SPEC)
    return folder


def _write(spec: dict[str, Any]) -> None:
    Path("my spec.json").write_text(json.dumps(spec), encoding="utf-8")


def _run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def _train(*words: str) -> Result:
    return _run("train", "my spec.json", "--out", "my run", *words)


def _commands(text: str) -> list[list[str]]:
    """The commands in what was written, as a shell would split them."""
    lines = (line[line.index("diffkit ") :] for line in text.splitlines() if "diffkit " in line)
    return [shlex.split(line)[1:] for line in lines]


def test_what_training_recommends_at_its_end(here: Path) -> None:
    done = _train("--set", "seed=3")
    assert done.exit_code == 0, done.output
    sample, again = _commands(done.output)
    assert _run(*sample).exit_code == 0
    assert (here / "samples.png").exists()
    more = _run(*again, "--set", "training.steps=4")
    assert more.exit_code == 0, more.output
    assert (here / "my run" / "checkpoints" / "step-00000004").exists()


def test_a_run_that_is_there_can_be_resumed_as_is_said(here: Path) -> None:
    _train()
    refused = _train()
    assert refused.exit_code == 2
    assert "--resume" in refused.output
    assert _train("--resume").exit_code == 0


def test_updates_that_are_not_finite_can_be_skipped_as_is_said(here: Path) -> None:
    rate = ("--set", "training.learning_rate=1e30")
    failed = _train(*rate, "--set", "training.steps=20")
    assert failed.exit_code == 2
    assert "set training.nonfinite to skip" in " ".join(failed.output.split())
    done = _run(
        "train", "my spec.json", "--out", "other", *rate, "--set", "training.nonfinite=skip"
    )
    assert done.exit_code == 0, done.output


def test_a_shape_that_differs_can_be_set_as_is_said(here: Path) -> None:
    _write({**SPEC, "data": {"shape": [1, 4, 4], "range": [-1, 1]}})
    failed = _train()
    assert failed.exit_code == 2
    assert "data.shape" in failed.output
    assert _train("--set", "data.shape=[1, 8, 8]").exit_code == 0


def test_a_plugin_file_that_is_missing_can_be_named_as_is_said(here: Path) -> None:
    Path("my plugin.py").write_text(LOCAL, encoding="utf-8")
    _write({**SPEC, "loss": {"id": "diffkit.simple", "config": {"weighting": "local.mine"}}})
    done = _train("--plugin-file", "my plugin.py")
    assert done.exit_code == 0, done.output
    sample, _ = _commands(done.output)
    without = [w for w in sample if w not in ("--plugin-file", "my plugin.py")]
    failed = _run(*without)
    assert failed.exit_code == 2
    assert "name it as a plugin file" in " ".join(failed.output.split())
    assert _run(*sample).exit_code == 0


def test_what_is_set_first_as_is_said_can_be_set_then(here: Path) -> None:
    failed = _train("--set", "loss.weighting.gamma=2")
    assert failed.exit_code == 2
    said = re.search(r"set (\S+)=NAME first", failed.output)
    assert said is not None
    done = _train("--set", f"{said[1]}=diffkit.min-snr", "--set", "loss.weighting.gamma=2")
    assert done.exit_code == 0, done.output


def test_a_name_that_two_have_can_be_written_in_full_as_is_said(here: Path) -> None:
    source = LOCAL.replace("Mine", "P2")
    Path("my plugin.py").write_text(source, encoding="utf-8")
    words = ("--plugin-file", "my plugin.py")
    failed = _train(*words, "--set", "loss.weighting=p2")
    assert failed.exit_code == 2
    full = re.findall(r"([a-z]+\.p2) \(of", failed.output)
    assert full == ["diffkit.p2", "local.p2"]
    for number, name in enumerate(full):
        setting = ("--set", f"loss.weighting={name}")
        done = _run("train", "my spec.json", "--out", f"run{number}", *words, *setting)
        assert done.exit_code == 0, done.output
