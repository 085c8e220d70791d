"""kill -9 at random moments: nothing half written is ever seen, and the run ends as if unbroken."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

import diffkit
from diffkit.core.weights import read_tensors
from diffkit.run import artifacts
from diffkit.run.artifacts import read_metrics
from diffkit.run.files import read_json

KILLS, EVERY = 50, 3
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "gaussian",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "training": {
        "batch_size": 50,
        "log_every": 5,
        "checkpoint_every": EVERY,
        "warmup_steps": 5,
        # A multiple of neither, and it takes several epochs of 36 updates.
        "steps": 4_001,
    },
}


class Reports:
    """Writes to a pipe that training began, and each update whose checkpoint is complete."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    @diffkit.hookimpl
    def diffkit_run_start(self) -> None:
        os.write(self.pipe, bytes(4))

    @diffkit.hookimpl
    def diffkit_checkpoint(self, step) -> None:
        os.write(self.pipe, step.to_bytes(4, "little"))


def train(run: Path, steps: int, pipe: int) -> None:
    resume = bool(artifacts.checkpoints(run))
    if not resume:
        # As a person would who was told that nothing was kept.
        (run / artifacts.METRICS).unlink(missing_ok=True)
    torch.set_num_threads(1)
    pipeline = diffkit.build(SPEC, device="cpu")
    pipeline.train(out=run, resume=resume, steps=steps, observers=[Reports(pipe)])


def train_until_killed(run: Path, steps: int, seconds: float | None) -> int:
    """Train in a process of its own, killed so long after training began, or before where that is
    negative; returns the last update that it reported."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(run, steps, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    reported = b""
    if seconds is not None and seconds < 0:
        time.sleep(-seconds)
    else:
        reported = os.read(reading, 4)
        if seconds is not None:
            time.sleep(seconds)
    if seconds is not None:
        os.kill(child, signal.SIGKILL)
    while got := os.read(reading, 4096):
        reported += got
    os.close(reading)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0, "training failed; see its output"
    return int.from_bytes(reported[-4:], "little") if reported else 0


def all_is_whole(run: Path) -> None:
    for checkpoint in artifacts.checkpoints(run):
        names = {path.name for path in checkpoint.iterdir()}
        assert names == {
            "model.safetensors",
            "ema.safetensors",
            "optimizer.safetensors",
            "trainer.json",
            "spec.json",
        }
        for name in names - {"trainer.json", "spec.json"}:
            read_tensors(checkpoint / name)
        assert read_json(checkpoint / "trainer.json")["step"] == int(checkpoint.name[-8:])
    if (run / artifacts.SPEC).exists():
        read_json(run / artifacts.SPEC)


@pytest.mark.slow
def test_killed_fifty_times(tmp_path) -> None:
    run, generator, kills = tmp_path / "run", random.Random(0), 0
    steps = 0
    while kills < KILLS:
        before = int(artifacts.checkpoints(run)[-1].name[-8:]) if steps else 0
        reported = train_until_killed(run, SPEC["training"]["steps"], generator.uniform(-0.1, 0.4))
        kills += 1
        all_is_whole(run)
        found = artifacts.checkpoints(run)
        steps = int(found[-1].name[-8:]) if found else 0
        # No checkpoint that was reported complete is lost, nor one that was there before.
        assert steps >= max(reported, before)
        assert steps % EVERY == 0
    assert 0 < steps < SPEC["training"]["steps"], "kills must fall within the run"

    # A few updates more, unbroken, from where the kills led; and the same without any kill.
    end = steps + 50
    train_until_killed(run, end, None)
    unbroken = tmp_path / "unbroken"
    train_until_killed(unbroken, end, None)
    for name in ("model", "ema", "optimizer"):
        ours, theirs = (
            read_tensors(artifacts.latest_checkpoint(r) / f"{name}.safetensors")
            for r in (run, unbroken)
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    steps_logged = [line["step"] for line in read_metrics(run)]
    assert steps_logged == [line["step"] for line in read_metrics(unbroken)]
