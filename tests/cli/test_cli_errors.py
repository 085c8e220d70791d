"""A user's mistake: exit code 2, one message, no traceback."""

import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from diffkit.cli.main import cli


def _fails(result, *words):
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    assert result.stderr.count("Error: ") == 1
    for word in words:
        assert word in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("sampler=ddmp", ["no sampler is called 'ddmp'", "did you mean 'ddpm'"]),
        ("model.widht=8", ["model.widht", "there is no such key"]),
        ("training.learning_rate=.nan", ["learning_rate"]),
        ("sampler=os:system", ["no sampler is called 'os:system'"]),
        ("trainig.steps=1", ["did you mean 'training'"]),
    ],
)
def test_a_bad_spec(invoke, spec_file, tmp_path, setting, words):
    out = tmp_path / "run"
    _fails(invoke("train", spec_file, "--out", out, "--set", setting), *words)
    assert not out.exists()


def test_a_missing_file(invoke, tmp_path):
    _fails(invoke("train", tmp_path / "no.yaml", "--out", tmp_path / "run"), "no.yaml")


def test_bad_yaml(invoke, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("schedule: [linear\nmodel: unet\n")
    _fails(invoke("train", path, "--out", tmp_path / "run"), "cannot be parsed")


def test_a_run_is_not_overwritten(invoke, spec_file, tiny_run):
    _fails(invoke("train", spec_file, "--out", tiny_run), "holds a run already", "--resume")


def test_a_bad_ending_before_anything_else(invoke, tmp_path):
    result = invoke("sample", tmp_path / "no-run", "--out", tmp_path / "x.jpg")
    _fails(result, ".png", ".npz", ".gif")


def test_an_option_that_would_be_ignored(invoke, tmp_path):
    result = invoke("sample", tmp_path, "--out", tmp_path / "x.gif", "--batch-size", 4)
    _fails(result, "--batch-size")


def test_no_such_run(invoke, tmp_path):
    _fails(invoke("eval", tmp_path / "no"), "no such run")
    _fails(invoke("sample", tmp_path / "no", "--out", tmp_path / "x.png"), "no such run")


def test_a_run_without_checkpoints(invoke, tiny_run, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(tiny_run / "spec.json", run)
    _fails(invoke("sample", run, "--out", tmp_path / "x.png"), "before the first checkpoint")
    _fails(invoke("sample", tmp_path, "--out", tmp_path / "x.png"), "no checkpoint")


def test_truncated_weights(invoke, tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    weights = run / "checkpoints" / "step-00000004" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    _fails(invoke("sample", run, "--out", tmp_path / "x.png"), "not a whole safetensors file")


def test_a_bad_sampler_for_a_trajectory(invoke, tiny_run, tmp_path):
    out = tmp_path / "x.npz"
    _fails(invoke("sample", tiny_run, "--out", out, "--sampler", "dpm"), "no sampler is called")
    _fails(invoke("sample", tiny_run, "--out", out, "--sampler", "{id: ddpm"), "--sampler")


def test_an_unknown_component_or_plugin_file(invoke, tmp_path):
    _fails(invoke("show", "sampler", "ddmp"), "did you mean 'ddpm'")
    _fails(invoke("list", "--plugin-file", tmp_path / "no.py"), "cannot be read")


def test_an_unknown_verb(invoke):
    _fails(invoke("trian"), "trian")


@pytest.mark.parametrize("before", [True, False])
def test_debug_shows_the_traceback(before):
    words = ["show", "sampler", "ddmp"]
    result = CliRunner().invoke(cli, ["--debug", *words] if before else [*words, "--debug"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


def test_version(invoke):
    assert "diffkit, version" in invoke("--version").output


def test_a_reader_that_has_left_is_no_error():
    """As with `diffkit list | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    code = "from diffkit.cli.main import main; main()"
    words = [sys.executable, "-c", code, "list"]
    ended = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")
