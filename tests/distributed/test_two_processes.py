"""Two processes on the CPU do what one does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from diffkit.bundled.datasets.digits import Digits
from diffkit.core.weights import read_tensors
from diffkit.storage import run_directory
from diffkit.storage.run_directory import read_metrics

pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("two_processes.py")


def launched(
    task: str, folder: Path, count: int, code: int | None = 0, divided: bool = False
) -> str:
    """Run a task in so many processes; its output."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(SCRIPT), task, str(folder), *["--divided"] * divided]
    if count > 1:
        program = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        command = [sys.executable, *program, *command[1:]]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    output = done.stdout + done.stderr
    if code is None:
        assert done.returncode != 0, output
    else:
        assert done.returncode == code, output
    return output


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[int, Path]:
    """The same training by one process and by two."""
    folder = tmp_path_factory.mktemp("runs")
    for count in (1, 2):
        launched("train", folder / str(count), count)
    return {count: folder / str(count) for count in (1, 2)}


def metrics(folder: Path, name: str) -> list[float]:
    return [line[name] for line in read_metrics(folder / "run")]


def weights(folder: Path, name: str = "model") -> dict[str, torch.Tensor]:
    last = run_directory.latest_checkpoint(folder / "run")
    return read_tensors(last / f"{name}.safetensors")


def assert_near(one: Path, other: Path) -> None:
    # The same sums in another order, in float32; Adam's first steps divide by small numbers.
    assert metrics(one, "loss") == pytest.approx(metrics(other, "loss"), rel=1e-5)
    assert metrics(one, "grad_norm") == pytest.approx(metrics(other, "grad_norm"), rel=1e-4)
    for name in ("model", "ema"):
        ours, theirs = weights(one, name), weights(other, name)
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert torch.allclose(ours[key], theirs[key], rtol=0, atol=1e-5), key


def test_the_same_global_batch_gives_the_same_losses(runs) -> None:
    assert len(metrics(runs[1], "loss")) == 8
    assert_near(runs[1], runs[2])


@pytest.mark.parametrize("count", [1, 2])
def test_a_loop_of_ones_own_makes_these_updates(runs, count, tmp_path) -> None:
    launched("own_loop", tmp_path / "own", count)
    for name in ("model", "ema"):
        ours, theirs = weights(tmp_path / "own", name), weights(runs[1], name)
        for key in theirs:
            assert torch.allclose(ours[key], theirs[key], rtol=0, atol=1e-5), key


def test_files_are_written_once(runs) -> None:
    for count in (1, 2):
        found = sorted(path.name for path in run_directory.checkpoints(runs[count] / "run"))
        assert found == ["step-00000004", "step-00000008"]
        assert metrics(runs[count], "step") == list(range(1, 9))


@pytest.mark.parametrize("count", [1, 2])
def test_micro_batches_add_up_to_the_batch(runs, count, tmp_path) -> None:
    launched("accumulate", tmp_path / "a", count)
    assert_near(tmp_path / "a", runs[1])


def test_a_run_of_two_goes_on_in_one_and_the_reverse(runs, tmp_path) -> None:
    for count in (1, 2):
        folder = tmp_path / str(count)
        subprocess.run(["cp", "-r", str(runs[count]), str(folder)], check=True)
        launched("resume", folder, 3 - count)
        assert metrics(folder, "step") == list(range(1, 13))
    assert_near(tmp_path / "1", tmp_path / "2")


def test_latents_are_computed_by_one_process_and_read_by_both(tmp_path) -> None:
    for count in (1, 2):
        launched("latents", tmp_path / str(count), count)
    assert_near(tmp_path / "1", tmp_path / "2")
    data = len(Digits())
    for count in (1, 2):
        folder = tmp_path / str(count)
        assert (folder / "run" / "latents" / "latents.json").exists()
        assert sum(map(int, (folder / "encoded-0").read_text().split())) == data
        assert not (folder / "encoded-1").exists()
    ours, theirs = (np.load(tmp_path / str(count) / "after.npy") for count in (1, 2))
    assert np.allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory) -> dict[int, Path]:
    """Training whose times follow the losses, by one process and by two."""
    folder = tmp_path_factory.mktemp("adaptive")
    for count in (1, 2):
        launched("adaptive", folder / str(count), count)
    return {count: folder / str(count) for count in (1, 2)}


def assert_learned_alike(one: Path, other: Path) -> None:
    assert_near(one, other)
    ours, theirs = (weights(folder, "times") for folder in (one, other))
    assert ours["counts"].min() > 0, "nothing is learned before"
    assert torch.equal(ours["counts"], theirs["counts"])
    for name in ("losses", "pending"):
        assert ours[name].shape == theirs[name].shape
        assert torch.allclose(ours[name], theirs[name], rtol=1e-5, atol=0), name


def test_a_law_of_times_sees_whole_batches_and_all_losses(adaptive) -> None:
    assert_learned_alike(adaptive[1], adaptive[2])
    # Two updates of 12 rows are waiting after the eighth.
    assert len(weights(adaptive[2], "times")["pending"]) == 24


def test_what_a_law_learned_goes_on_in_another_number_of_processes(adaptive, tmp_path) -> None:
    for count in (1, 2):
        folder = tmp_path / str(count)
        subprocess.run(["cp", "-r", str(adaptive[count]), str(folder)], check=True)
        launched("resume", folder, 3 - count)
    assert_learned_alike(tmp_path / "1", tmp_path / "2")
    assert len(weights(tmp_path / "1", "times")["pending"]) == 0


def test_divided_weights_learn_times_as_whole_ones_do(adaptive, tmp_path) -> None:
    launched("adaptive", tmp_path / "d", 2, divided=True)
    assert_learned_alike(tmp_path / "d", adaptive[1])


def test_samples_do_not_depend_on_the_number_of_processes(runs, tmp_path) -> None:
    found = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        subprocess.run(["cp", "-r", str(runs[1]), str(folder)], check=True)
        launched("sample", folder, count)
        found[count] = [np.load(folder / f"samples-{rank}.npy") for rank in range(count)]
    # Every process has all of them; batches of another size round differently.
    assert np.array_equal(*found[2])
    assert np.allclose(found[1][0], found[2][0], rtol=0, atol=1e-5)
    shares = {path.name for path in (tmp_path / "2").glob("rows-*.npy")}
    assert shares == {f"rows-{r}-{s}.npy" for r, s in ((0, 0), (0, 2), (1, 3), (1, 5))}


def test_a_process_that_dies_ends_the_run_and_leaves_a_checkpoint(tmp_path) -> None:
    launched("lose_one", tmp_path / "lost", 2, code=None)
    message = (tmp_path / "lost" / "error-0.txt").read_text()
    assert "process 0 of 2 lost another process of this run" in message
    last = run_directory.latest_checkpoint(tmp_path / "lost" / "run")
    # The one that is left keeps the weights of the last update that both made.
    assert last.name == "step-00000005"
    assert str(last) in message
    launched("resume", tmp_path / "lost", 2)


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path) -> None:
    launched("odd_batch", tmp_path / "odd", 2)
    message = (tmp_path / "odd" / "error-1.txt").read_text()
    assert "training.batch_size = 5 cannot be shared by 2 processes" in message
    assert "multiple of 2" in message


def test_divided_weights_train_as_whole_ones_do(runs, tmp_path) -> None:
    launched("train", tmp_path / "d", 2, divided=True)
    assert_near(tmp_path / "d", runs[1])
    # What comes back to the pipeline is what was trained.
    after = [np.load(folder / "after.npy") for folder in (tmp_path / "d", runs[1])]
    assert np.allclose(*after, rtol=0, atol=1e-4)
    launched("accumulate", tmp_path / "a", 2, divided=True)
    assert_near(tmp_path / "a", runs[1])


def test_a_run_with_divided_weights_goes_on_whole_and_the_reverse(runs, tmp_path) -> None:
    launched("train", tmp_path / "first", 2, divided=True)
    launched("resume", tmp_path / "first", 1)
    subprocess.run(["cp", "-r", str(runs[1]), str(tmp_path / "then")], check=True)
    launched("resume", tmp_path / "then", 2, divided=True)
    for name in ("first", "then"):
        assert metrics(tmp_path / name, "step") == list(range(1, 13))
    assert_near(tmp_path / "first", tmp_path / "then")


def test_an_update_that_is_not_finite_is_kept_from_divided_weights(tmp_path) -> None:
    launched("divided_not_finite", tmp_path / "n", 2, divided=True)
    for rank in range(2):
        assert "update" in (tmp_path / "n" / f"error-{rank}.txt").read_text()


def test_the_first_fsdp_is_refused_by_name(tmp_path) -> None:
    launched("old_fsdp", tmp_path / "old", 2, divided=True)
    assert "fsdp_version: 2" in (tmp_path / "old" / "error-0.txt").read_text()


@pytest.mark.parametrize(
    ("kind", "reasons"),
    [
        ("rank in a loss", ["RuntimeError: expected a tensor of rank 4"] * 2),
        ("data", ["TrainingError: .*lost another process", r"DataError: x\.png"]),
        ("locked", ["CheckpointError: .*is being written", "TrainingError: .*process 0 of 2 can"]),
        ("another number of steps", [r"SpecError: .*training\.steps is 1000 in process 0"] * 2),
        ("signal", ["TrainingInterrupted: training was ended by SIGTERM"] * 2),
    ],
)
def test_each_process_ends_within_seconds_and_tells_its_own_reason(
    kind, reasons, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("REASON", kind)
    began = time.monotonic()
    launched("own_reasons", tmp_path / "r", 2, code=None)
    assert time.monotonic() - began < 60, "most of it is the start of two interpreters"
    for rank, reason in enumerate(reasons):
        assert re.match(reason, (tmp_path / "r" / f"error-{rank}.txt").read_text())


def test_a_tied_weight_and_a_count_survive_two_processes(tmp_path) -> None:
    for count in (1, 2):
        launched("tied", tmp_path / str(count), count)
        assert "model.last.weight" not in weights(tmp_path / str(count))
    assert_near(tmp_path / "1", tmp_path / "2")


def test_a_count_survives_division_and_a_tied_weight_is_refused_by_name(tmp_path) -> None:
    launched("tied", tmp_path / "d", 2, divided=True)
    for name in ("model", "ema"):
        assert int(weights(tmp_path / "d", name)["model.calls"]) == 8
    message = (tmp_path / "d" / "error-1.txt").read_text()
    assert "model.first.weight and model.last.weight are one" in message
