"""What training leaves behind when something goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import torch
from PIL import Image

import diffkit
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.weights import read_tensors
from diffkit.helpers.files import read_json
from diffkit.helpers.interruption import requests_noted
from diffkit.storage import run_directory
from diffkit.storage.run_directory import read_metrics

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
    "training": {"batch_size": 4, "warmup_steps": 2, "log_every": 4, "checkpoint_every": 2},
}


class Points(Dataset):
    """Forty points; one of them can be bad."""

    def __init__(self, *, bad: int | None = None, value: float = float("nan")) -> None:
        self._x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
        if bad is not None:
            self._x[bad] = value

    @property
    def shape(self):
        return (2,)

    def __len__(self):
        return len(self._x)

    def batch(self, indices):
        return Batch(self._x[list(indices)])


def bad_point_of_update(number: int, seed: int = 0) -> int:
    """A row that update `number`, counted from 1, is the first to read."""
    from diffkit.training.order import DataOrder

    return DataOrder(40, seed).rows(4 * (number - 1), 1)[0]


def weights(pipeline) -> list[torch.Tensor]:
    parameters = [*pipeline.system.parameters(), *pipeline.average.parameters()]
    return [p.detach().clone() for p in parameters]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_loss_that_is_not_finite_reaches_nothing_and_stops_the_run(value, tmp_path) -> None:
    pipeline = diffkit.build(SPEC)
    data = Points(bad=bad_point_of_update(3), value=value)
    with pytest.raises(diffkit.TrainingError) as caught:
        pipeline.train(data, steps=8, out=tmp_path / "run")
    message = str(caught.value)
    assert message.startswith("update 3 had a loss or a gradient that is not finite")
    assert "training.learning_rate" in message
    last = run_directory.latest_checkpoint(tmp_path / "run")
    assert str(last) in message
    assert all(bool(w.isfinite().all()) for w in weights(pipeline))
    for name in ("model", "ema", "optimizer"):
        tensors = read_tensors(last / f"{name}.safetensors")
        assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_an_update_left_out_leaves_everything_as_it_was(tmp_path) -> None:
    data = Points(bad=bad_point_of_update(3))
    before, after = diffkit.build(SPEC), diffkit.build(SPEC)
    before.train(data, steps=2, ema_decay=0.5)
    after.train(data, steps=3, ema_decay=0.5, nonfinite="skip", out=tmp_path / "run")
    trained = list(before.system.parameters()), list(after.system.parameters())
    assert all(torch.equal(one, other) for one, other in zip(*trained, strict=True))
    assert all(bool(w.isfinite().all()) for w in weights(after))
    (metrics,) = read_metrics(tmp_path / "run")
    assert metrics["skipped"] == 1
    assert metrics["loss"] > 0


class Kills:
    """Sends a signal to this process when a checkpoint is written."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    @diffkit.hookimpl
    def diffkit_checkpoint(self, step) -> None:
        if step == 4:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_with_a_checkpoint_that_goes_on_exactly(number, tmp_path) -> None:
    # What a shell starts in the background is told to ignore SIGINT, and training does so then.
    handler = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, handler)
    try:
        _interrupted_training(number, handler, tmp_path)
    finally:
        signal.signal(number, before)


def _interrupted_training(number, handler, tmp_path) -> None:
    whole = diffkit.build(SPEC).train(Points(), steps=9)
    ended = diffkit.build(SPEC)
    with pytest.raises(diffkit.TrainingInterrupted) as caught:
        ended.train(Points(), steps=9, out=tmp_path / "run", observers=[Kills(number)])
    assert caught.value.signal is number
    assert number.name in str(caught.value)
    assert signal.getsignal(number) is handler
    # Noted within update 4's checkpoint, obeyed before update 5.
    assert run_directory.latest_checkpoint(tmp_path / "run").name == "step-00000004"
    resumed = diffkit.load(tmp_path / "run").train(Points(), out=tmp_path / "run", resume=True)
    pairs = zip(weights(resumed), weights(whole), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with requests_noted() as request:
            os.kill(os.getpid(), signal.SIGINT)
        assert request.signal is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_in_a_thread_touches_no_handler(tmp_path) -> None:
    failures: list[BaseException] = []

    def train() -> None:
        try:
            diffkit.build(SPEC).train(Points(), steps=3)
        except BaseException as error:  # noqa: BLE001 - it has to reach the other thread
            failures.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not failures


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_says_how_to_resume(number, code, tmp_path) -> None:
    spec = {**SPEC, "dataset": "digits", "data": None}
    spec["training"] = {**SPEC["training"], "steps": 10**6, "log_every": 1}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    words = ["train", str(tmp_path / "spec.json"), "--out", str(tmp_path / "run")]
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from diffkit.cli.main import main; main()"
    )
    command = [sys.executable, "-c", program, *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        while not run_directory.checkpoints(tmp_path / "run"):
            assert process.poll() is None
            threading.Event().wait(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    kept = run_directory.latest_checkpoint(tmp_path / "run")
    assert f"ended by {number.name}; {kept.name} is kept" in errors.decode()
    assert "--resume" in errors.decode()


def test_a_second_run_in_the_same_directory_is_refused(tmp_path) -> None:
    class TrainsThereToo:
        refusals: tuple[str, ...] = ()

        @diffkit.hookimpl
        def diffkit_step(self, step) -> None:
            with pytest.raises(diffkit.CheckpointError, match="is being written by another") as e:
                diffkit.build(SPEC).train(Points(), steps=1, out=tmp_path / "run", resume=True)
            self.refusals = (*self.refusals, str(e.value))

    observer = TrainsThereToo()
    diffkit.build(SPEC).train(Points(), steps=4, out=tmp_path / "run", observers=[observer])
    assert len(observer.refusals) == 1
    # Once it has ended, the directory is free.
    diffkit.load(tmp_path / "run").train(Points(), steps=5, out=tmp_path / "run", resume=True)


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path) -> None:
    for step, loss in enumerate([3.0, 1.0, 2.0, None, 5.0, 4.0]):
        run_directory.write_checkpoint(tmp_path, step, {"model": {}}, {}, {"loss": loss})
        run_directory.prune(tmp_path, 2, 1)
    kept = [int(path.name[-8:]) for path in run_directory.checkpoints(tmp_path)]
    assert kept == [1, 4, 5]
    assert run_directory.chosen_checkpoint(tmp_path, "best").name == "step-00000001"
    assert run_directory.chosen_checkpoint(tmp_path, "last").name == "step-00000005"
    assert run_directory.chosen_checkpoint(tmp_path, 4).name == "step-00000004"
    with pytest.raises(diffkit.CheckpointError, match="one of the steps 1, 4, 5"):
        run_directory.chosen_checkpoint(tmp_path, 3)


def test_the_best_checkpoint_is_loaded_by_name(tmp_path) -> None:
    pipeline = diffkit.build(SPEC)
    pipeline.train(Points(), steps=8, out=tmp_path / "run", keep=1, learning_rate=0.01)
    losses = {
        path.name: read_json(path / "trainer.json")["loss"]
        for path in run_directory.checkpoints(tmp_path / "run")
    }
    best = min(losses, key=losses.__getitem__)
    expected = read_tensors(tmp_path / "run" / "checkpoints" / best / "model.safetensors")
    loaded = diffkit.load(tmp_path / "run", checkpoint="best")
    assert all(torch.equal(v, expected[k]) for k, v in loaded.system.state_dict().items())


def test_a_file_that_vanishes_while_training_leaves_the_checkpoints(tmp_path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(8):
        Image.new("L", (8, 8), 30 * index).save(folder / f"{index}.png")
    spec = {
        **SPEC,
        "data": None,
        "dataset": {"id": "image-folder", "config": {"folder": str(folder), "size": 8}},
    }

    class Vanishes:
        @diffkit.hookimpl
        def diffkit_checkpoint(self, step) -> None:
            for path in folder.iterdir():
                path.unlink()

    with pytest.raises(diffkit.DataError, match=str(folder)):
        diffkit.build(spec).train(steps=9, out=tmp_path / "run", observers=[Vanishes()])
    diffkit.load(tmp_path / "run", device="cpu")
    assert run_directory.latest_checkpoint(tmp_path / "run").name == "step-00000002"


def test_a_directory_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(diffkit.CheckpointError, match="cannot be written"):
        diffkit.build(SPEC).train(Points(), steps=1, out=tmp_path / "file" / "run")


def test_a_read_only_file_system_leaves_the_run_as_it_was(tmp_path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a disk needs privileges")
    try:
        diffkit.build(SPEC).train(Points(), steps=2, out=disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(diffkit.CheckpointError, match="cannot be written"):
            diffkit.load(disk / "run").train(Points(), steps=4, out=disk / "run", resume=True)
        assert diffkit.load(disk / "run").sample(1).isfinite().all()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_a_killed_process_left_half_written_is_cleared(tmp_path) -> None:
    run = tmp_path / "run"
    diffkit.build(SPEC).train(Points(), steps=2, out=run)
    whole = run_directory.latest_checkpoint(run)
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    mark = f".diffkit-{int(gone.stdout)}-0f0f.tmp"
    (run / "checkpoints" / mark).mkdir()
    (run / mark).write_text("{")
    # Killed after a state took the place of another, and before that was deleted.
    newer = whole.with_name(f"{whole.name}-r2")
    shutil.copytree(whole, newer)
    # Of others: somebody else's, and a process of ours that is at work.
    theirs = (".thesis.odt.tmp", ".diffkit-notes.tmp", f".diffkit-{os.getppid()}-0f0f.tmp")
    for name in theirs:
        (run / name).write_text("mine")
    assert run_directory.checkpoints(run) == [newer]
    run_directory.clear_run(run)
    assert list((run / "checkpoints").iterdir()) == [newer]
    assert {path.name for path in run.glob(".*.tmp")} == set(theirs)
