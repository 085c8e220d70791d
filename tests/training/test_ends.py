"""Whatever ends training, short of a kill, leaves the last good weights; onlookers cannot."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image

import diffkit
from diffkit.bundled.losses.simple import Simple
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.weights import read_tensors
from diffkit.storage import run_directory
from diffkit.training import checkpoints, metric_log, trainer

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
    "training": {"batch_size": 4, "log_every": 2, "checkpoint_every": 100, "warmup_steps": 0},
}


class Points(Dataset):
    """The read number `bad` fails with this error, after which all is well again."""

    def __init__(self, bad: int = -1, error: BaseException | None = None) -> None:
        self.bad, self.error, self.reads = bad, error, 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def __len__(self) -> int:
        return 16

    def batch(self, indices) -> Batch:
        self.reads += 1
        if self.reads == self.bad and self.error is not None:
            raise self.error
        return Batch(torch.linspace(-1, 1, 32).reshape(16, 2)[list(indices)])


def files(run) -> dict[str, dict[str, torch.Tensor]]:
    last = run_directory.latest_checkpoint(run)
    return {path.name: read_tensors(path) for path in last.glob("*.safetensors")}


def same(one, other) -> bool:
    return all(torch.equal(v, other[n][k]) for n, t in one.items() for k, v in t.items())


@pytest.mark.parametrize("times", ["uniform", {"id": "importance", "config": {"every": 3}}])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    "error",
    [
        diffkit.DataError("a broken picture"),
        RuntimeError("from a loss"),
        KeyboardInterrupt(),
        SystemExit(3),
        MemoryError(),
    ],
)
def test_training_goes_on_exactly_from_where_it_failed(error, accumulate, times, tmp_path) -> None:
    spec = {**SPEC, "times": times}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = {"steps": 9, "accumulate": accumulate, "progress": False}
    diffkit.build(spec).train(Points(), out=whole, **options)
    # The first read is a look at the data; the one that fails is the last of update 6.
    data = Points(1 + 6 * accumulate, error)
    # Memory that runs out is explained.
    kind = diffkit.SpecError if isinstance(error, MemoryError) else type(error)
    with pytest.raises(kind):
        diffkit.build(spec).train(data, out=broken, **options)
    assert run_directory.latest_checkpoint(broken).name == "step-00000005"
    diffkit.build(spec).train(Points(), out=broken, resume=True, **options)
    assert same(files(whole), files(broken))


def test_an_update_that_was_torn_apart_is_not_kept(tmp_path, monkeypatch) -> None:
    """Interrupted between the step of the optimiser and that of the average: no such weights."""
    made = []

    class Torn(trainer.TrainStep):
        def make(self, step):
            found = super().make(step)
            made.append(step)
            if len(made) == 5:
                raise KeyboardInterrupt
            return found

    monkeypatch.setattr(trainer, "TrainStep", Torn)
    with pytest.raises(KeyboardInterrupt):
        diffkit.build(SPEC).train(
            Points(), steps=9, checkpoint_every=4, out=tmp_path, progress=False
        )
    assert run_directory.latest_checkpoint(tmp_path).name == "step-00000004"


def test_the_error_is_told_though_the_weights_cannot_be_kept(tmp_path, monkeypatch, caplog) -> None:
    def full(*_: object) -> None:
        raise diffkit.CheckpointError("no space left")

    monkeypatch.setattr(checkpoints, "write_training", full)
    with pytest.raises(diffkit.DataError, match="a broken picture"):
        diffkit.build(SPEC).train(
            Points(4, diffkit.DataError("a broken picture")), steps=9, out=tmp_path, progress=False
        )
    assert "no space left" in caplog.text


def test_a_night_with_one_bad_picture(tmp_path, caplog) -> None:
    """An error by default, with a checkpoint; left out on purpose, with its name."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(16):
        Image.new("L", (4, 4), 15 * index).save(folder / f"{index:02d}.png")
    # Not among those that are looked at before training.
    whole = (folder / "09.png").read_bytes()
    spec = {k: v for k, v in SPEC.items() if k != "data"}
    config = {"folder": str(folder), "size": 4, "channels": 1}

    class Breaks:
        @diffkit.hookimpl
        def diffkit_run_start(self) -> None:
            (folder / "09.png").write_bytes(whole[:40])

    spec["dataset"] = {"id": "image-folder", "config": config}
    with pytest.raises(diffkit.DataError, match=r"09\.png"):
        diffkit.build(spec).train(steps=9, out=tmp_path / "a", observers=[Breaks()], progress=False)
    assert diffkit.load(tmp_path / "a", device="cpu")._weights.steps < 4
    spec["dataset"] = {"id": "image-folder", "config": {**config, "unreadable": "skip"}}
    diffkit.build(spec).train(steps=9, out=tmp_path / "b", progress=False)
    assert "09.png" in caplog.text


@pytest.mark.parametrize("where", ["append_metrics", "SummaryWriter"])
def test_a_log_that_fails_never_ends_training(where, tmp_path, monkeypatch, caplog) -> None:
    def fails(*_: object) -> None:
        raise OSError("no space left for logs")

    if where == "append_metrics":
        monkeypatch.setattr(metric_log, "append_metrics", fails)
    else:
        tensorboard = pytest.importorskip("torch.utils.tensorboard")
        monkeypatch.setattr(tensorboard, "SummaryWriter", fails)
    diffkit.build(SPEC).train(Points(), steps=6, out=tmp_path, progress=False)
    assert run_directory.latest_checkpoint(tmp_path).name == "step-00000006"
    assert caplog.text.count("no space left for logs") == 1


def test_a_tensorboard_that_cannot_be_imported_is_left_out(tmp_path, monkeypatch, caplog) -> None:
    broken = tmp_path / "tensorboard"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise TypeError('Descriptors cannot be created')")
    for name in [n for n in sys.modules if n.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [n for n in sys.modules if n.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    diffkit.build(SPEC).train(Points(), steps=2, out=tmp_path / "run", progress=False)
    assert "plugin 'diffkit.tensorboard (training.observers[0])' is disabled" in caplog.text


COMMAND = """
import signal, sys
from diffkit.cli.main import main
from diffkit.training import train_step
made = train_step.TrainStep.make
count = [0]
def make(self, step):
    count[0] += 1
    if count[0] == 3:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    return made(self, step)
train_step.TrainStep.make = make
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


def test_a_second_interrupt_ends_at_once_and_what_was_good_is_kept(tmp_path) -> None:
    (tmp_path / "s.yaml").write_text(
        "schedule: cosine\nprocess: variance-preserving\n"
        "model: {id: mlp, config: {width: 8, depth: 1}}\n"
        "loss: simple\nsampler: ddpm\ndataset: digits\ntraining: {batch_size: 4, steps: 50}\n"
    )
    command = [sys.executable, "-c", COMMAND, "train", str(tmp_path / "s.yaml"), "--out"]
    done = subprocess.run([*command, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "step-00000002 is kept. Resume with" in done.stderr
    assert run_directory.latest_checkpoint(tmp_path / "run").name == "step-00000002"


def test_the_loss_may_raise_what_it_likes(tmp_path) -> None:
    class Fails(Simple):
        def __call__(self, batch, context):
            if context.step == 3:
                raise ZeroDivisionError
            return super().__call__(batch, context)

    pipeline = diffkit.build({**SPEC, "loss": Fails()})
    with pytest.raises(ZeroDivisionError):
        pipeline.train(Points(), steps=9, progress=False)
    assert pipeline._weights.steps == 3
