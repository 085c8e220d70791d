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
from diffkit.helpers.files import read_json
from diffkit.storage import run_directory
from diffkit.storage.run_directory import read_metrics

KILLS, EVERY = int(os.environ.get("KILLS", "6")), 3
"""Of each kind of run; KILLS=20 is the whole suite."""
STEPS = 4_001
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "diffkit.variance-preserving",
    "model": {"id": "diffkit.mlp", "config": {"width": 16, "depth": 1}},
    "loss": "diffkit.simple",
    "sampler": "diffkit.ddpm",
    "dataset": "digits",
    "training": {
        "batch_size": 50,
        "log_every": 5,
        "checkpoint_every": EVERY,
        "warmup_steps": 5,
        # A multiple of neither, and it takes several epochs of 36 updates.
        "steps": STEPS,
    },
}
UNET = {"width": 4, "groups": 2, "multipliers": [1], "blocks": 1, "attention": [], "dropout": 0.3}
IMPORTANCE = {"id": "importance", "config": {"every": 4, "history": 2}}
RUNS = {
    "plain": {},
    "dropout in micro-batches": {
        "model": {"id": "diffkit.unet", "config": UNET},
        "training": {"batch_size": 8, "accumulate": 2, "augmentations": ["flip"]},
    },
    "times that learn": {"times": IMPORTANCE},
    "a schedule that learns": {
        "schedule": "learned",
        "loss": {"id": "elbo", "config": {"steps": 20}},
        "training": {"ema_decay": 0.9},
    },
    "Adam without an average": {
        "training": {
            "optimizer": {"id": "adam", "config": {"weight_decay": 0.1}},
            "ema_decay": None,
        },
    },
}


def spec_of(kind: str) -> dict:
    changes = RUNS[kind]
    return {**SPEC, **changes, "training": {**SPEC["training"], **changes.get("training", {})}}


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


def train(spec: dict, run: Path, steps: int, pipe: int) -> None:
    resume = run_directory.holds_a_run(run)
    torch.set_num_threads(1)
    pipeline = diffkit.build(spec, device="cpu")
    pipeline.train(out=run, resume=resume, steps=steps, observers=[Reports(pipe)])


def train_until_killed(spec: dict, run: Path, steps: int, seconds: float | None) -> int:
    """Train in a process of its own, killed so long after training began, or before where that is
    negative; returns the last update that it reported."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(spec, run, steps, writing)
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
    for checkpoint in run_directory.checkpoints(run):
        for name in run_directory.recorded_files(checkpoint):
            read_tensors(checkpoint / f"{name}.safetensors")
        assert run_directory.recorded_step(checkpoint) == run_directory.step_of(checkpoint)
        read_json(checkpoint / run_directory.SPEC)
    if (run / run_directory.SPEC).exists():
        read_json(run / run_directory.SPEC)


def last_step(run: Path) -> int:
    found = run_directory.checkpoints(run)
    return run_directory.step_of(found[-1]) if found else 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*begins again")
@pytest.mark.parametrize("kind", RUNS)
def test_killed_again_and_again(kind, tmp_path) -> None:
    spec, run, dice = spec_of(kind), tmp_path / "run", random.Random(kind)
    for _ in range(KILLS):
        before = last_step(run)
        reported = train_until_killed(spec, run, STEPS, dice.uniform(-0.1, 0.4))
        all_is_whole(run)
        # No checkpoint that was reported complete is lost, nor one that was there before.
        assert last_step(run) >= max(reported, before)
        assert last_step(run) % EVERY == 0
    assert 0 < last_step(run) < STEPS, "kills must fall within the run"

    # A few updates more, unbroken, from where the kills led; and the same without any kill.
    end = last_step(run) + 10
    unbroken = tmp_path / "unbroken"
    for each in (run, unbroken):
        train_until_killed(spec, each, end, None)
    ours, theirs = (run_directory.latest_checkpoint(each) for each in (run, unbroken))
    assert run_directory.recorded_files(ours) == run_directory.recorded_files(theirs)
    for name in run_directory.recorded_files(ours):
        mine, other = (read_tensors(each / f"{name}.safetensors") for each in (ours, theirs))
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[key], other[key]) for key in mine), name
    logged = [[line["step"] for line in read_metrics(each)] for each in (run, unbroken)]
    assert logged[0] == logged[1]
