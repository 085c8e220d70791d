"""Targets are tried before work begins, results are shown before they are written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import diffkit
from diffkit.cli import eval as evaluation
from diffkit.cli.main import cli
from diffkit.errors import CheckpointError
from diffkit.storage import run_directory

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 2,
    "metric": {"id": "frechet", "config": {"max_samples": 32, "splits": 2}},
    "features": {"id": "classifier", "config": {"width": 4, "features": 8, "steps": 2}},
    "training": {"batch_size": 8, "checkpoint_every": 2, "warmup_steps": 0, "learning_rate": 0.1},
}


@pytest.fixture
def run(tmp_path) -> Path:
    diffkit.build(SPEC).train(steps=4, out=tmp_path / "run", progress=False)
    return tmp_path / "run"


def called(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    return result.exit_code, result.output


def unloaded(monkeypatch) -> None:
    """Work must not have begun."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr("diffkit.api.load", load)


@pytest.mark.parametrize("name", ["x.png", "x.npz", "x.gif", "x/"])
def test_a_target_that_cannot_be_written_is_refused_at_once(name, run, monkeypatch) -> None:
    (run.parent / "file").write_text("")
    unloaded(monkeypatch)
    code, output = called("sample", run, "--num", 2, "--out", f"{run.parent}/file/{name}")
    assert code == 2
    assert "cannot be written" in output
    code, output = called("eval", run, "--plot", run.parent / "file" / "p.png")
    assert code == 2
    assert "cannot be written" in output


def test_what_was_measured_is_shown_though_it_cannot_be_kept(run, monkeypatch) -> None:
    def full(path: Path, data: object) -> None:
        raise CheckpointError(f"{path} cannot be written: no space left")

    monkeypatch.setattr("diffkit.helpers.files.write_json", full)
    code, output = called("eval", run)
    assert code == 2
    assert "frechet_ratio" in output
    assert "no space left" in output


def test_a_run_that_cannot_be_written_is_measured(run, tmp_path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a disk needs privileges")
    try:
        subprocess.run(["cp", "-r", str(run), str(disk / "run")], check=True)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        code, output = called("eval", disk / "run")
        assert code == 0
        assert "frechet_ratio" in output
        assert "will be shown, and not kept" in output
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_run_that_is_not_there_is_not_made(tmp_path) -> None:
    for words in (["eval"], ["sample", "--num", "1", "--out", str(tmp_path / "x.png")]):
        code, output = called(words[0], tmp_path / "none", *words[1:])
        assert code == 2
        assert "no such run" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("which", ["2", "best", "last"])
def test_a_checkpoint_is_chosen(which, run) -> None:
    code, output = called("eval", run, "--checkpoint", which)
    assert code == 0, output
    found = json.loads((run / evaluation.EVAL).read_text())["checkpoint"]
    assert found == run_directory.chosen_checkpoint(run, int(which) if which == "2" else which).name
    code, output = called(
        "sample", run, "--num", 1, "--checkpoint", which, "--out", run.parent / "x.npz"
    )
    assert code == 0, output


def test_a_checkpoint_that_is_not_there_is_told(run) -> None:
    for which, words in (("3", "one of the steps 2, 4"), ("newest", "last, best, or a number")):
        code, output = called("eval", run, "--checkpoint", which)
        assert code == 2
        assert words in output


def test_going_on_from_a_checkpoint_on_the_command_line(run, tmp_path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC))
    code, output = called("train", spec, "--out", run, "--checkpoint", "2")
    assert code == 2
    assert "goes with --resume" in output
    steps = ["--set", "training.steps=3"]
    code, output = called("train", spec, "--out", run, "--resume", "--checkpoint", "2", *steps)
    assert code == 0, output
    assert [run_directory.step_of(path) for path in run_directory.checkpoints(run)] == [2, 3]


def test_a_plot_is_no_reason_to_lose_a_measurement(run) -> None:
    code, output = called("eval", run, "--plot", run.parent / "p.foo")
    assert code == 2
    assert "must end in .png" in output
    assert not (run / evaluation.EVAL).exists()
    # A metric without curves, and a folder that is to be made.
    code, output = called("eval", run, "--plot", run.parent / "new" / "p.png")
    assert code == 0
    assert "has no curves" in output
    assert (run / evaluation.EVAL).exists()


@pytest.mark.parametrize("make", ["fifo", "link", "dangling"])
def test_what_is_there_is_written_through_or_left(make, run, tmp_path) -> None:
    out, real = tmp_path / "x.npz", tmp_path / "real.npz"
    if make == "fifo":
        os.mkfifo(out)
    else:
        out.symlink_to(real)
    if make == "link":
        real.write_bytes(b"")
    code, output = called("sample", run, "--num", 1, "--out", out)
    if make == "fifo":
        assert code == 2
        assert "no regular file" in output
        assert out.is_fifo()
    else:
        assert code == 0, output
        assert out.is_symlink()
        assert real.stat().st_size > 0


TERMINATED = """
import os, signal
from diffkit.cli.main import main
from diffkit.sampling import run
real = run.SamplingRun.states
def states(self, *given):
    for state in real(self, *given):
        os.kill(os.getpid(), signal.SIGTERM)
        yield state
run.SamplingRun.states = states
main()
"""


def test_termination_clears_what_is_half_written(run, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    words = ["sample", str(run), "--num", "2", "--out", str(out / "x.npz")]
    done = subprocess.run([sys.executable, "-c", TERMINATED, *words], capture_output=True)
    assert done.returncode == 143, done.stderr
    assert not list(out.iterdir())
