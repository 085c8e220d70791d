"""What each process does in the tests with several; started by torchrun.

torchrun --nproc-per-node 2 two_processes.py TASK FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch

import diffkit

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "gaussian",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 5,
    "training": {"batch_size": 12, "warmup_steps": 2, "log_every": 1, "checkpoint_every": 4},
}


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


class Dies:
    """The end of one process, in the middle of an update."""

    def __init__(self) -> None:
        self.left = 6

    def __call__(self, module, arguments) -> None:
        self.left -= 1
        if self.left == 0:
            os._exit(7)


def train(folder: Path, steps: int = 8, **training) -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    pipeline.train(out=folder / "run", steps=steps, **training)


def accumulate(folder: Path) -> None:
    train(folder, accumulate=3)


def resume(folder: Path) -> None:
    pipeline = diffkit.load(folder / "run", device="cpu")
    pipeline.train(out=folder / "run", resume=True, steps=12)


def sample(folder: Path) -> None:
    pipeline = diffkit.load(folder / "run", device="cpu")
    samples = pipeline.sample(7, seed=3, batch_size=2)
    np.save(folder / f"samples-{rank()}.npy", samples.numpy())
    one = pipeline.sample(1, seed=3)
    # A batch of another size rounds differently.
    assert torch.allclose(one, samples[:1], rtol=0, atol=1e-5)
    for rows, x in pipeline.batches(7, seed=3, batch_size=2):
        np.save(folder / f"rows-{rank()}-{rows.start}.npy", x.numpy())


def lose_one(folder: Path) -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    if rank() == 1:
        pipeline.system.register_forward_pre_hook(Dies())
    try:
        pipeline.train(out=folder / "run", steps=1000)
    except diffkit.TrainingError as error:
        (folder / f"error-{rank()}.txt").write_text(str(error))
        raise


def odd_batch(folder: Path) -> None:
    try:
        train(folder, batch_size=5)
    except diffkit.SpecError as error:
        (folder / f"error-{rank()}.txt").write_text(str(error))


if __name__ == "__main__":
    torch.set_num_threads(1)
    tasks = (train, accumulate, resume, sample, lose_one, odd_batch)
    {task.__name__: task for task in tasks}[sys.argv[1]](Path(sys.argv[2]))
