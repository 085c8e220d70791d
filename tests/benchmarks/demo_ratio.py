"""The demo's Frechet ratio over seeds, as a Markdown table.

    python tests/benchmarks/demo_ratio.py [--seconds 55] [--steps N] [--seeds 0 1 2] [--keep DIR]

`--steps` trains for so many updates however long they take, for machines that are busy.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from pathlib import Path

import torch

import diffkit
from diffkit.cli.demo import demo_spec, results
from diffkit.helpers.files import read_json


def run(seed: int, seconds: float, steps: int | None, directory: Path) -> tuple[float, ...]:
    """TrainStep, seconds of training, and the ratio."""
    spec = demo_spec()
    limit = {"max_seconds": seconds} if steps is None else {"max_seconds": None, "steps": steps}
    spec["training"] = {**spec["training"], **limit}
    pipeline = diffkit.build({**spec, "seed": seed}, device="cpu")
    pipeline.train(out=directory, progress=False)
    ratio = results(pipeline, directory, seed)["frechet_ratio"]
    (checkpoint,) = (directory / "checkpoints").iterdir()
    trained = read_json(checkpoint / "trainer.json")
    return trained["step"], trained["seconds"], ratio


def main() -> None:
    """Run the demo for each seed and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=55.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    ratios = []
    print("| seed | updates | seconds of training | frechet_ratio |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for seed in options.seeds:
            directory = (options.keep or Path(temporary)) / f"seed-{seed}"
            step, seconds, ratio = run(seed, options.seconds, options.steps, directory)
            ratios.append(ratio)
            print(f"| {seed} | {step:.0f} | {seconds:.1f} | {ratio:.2f} |", flush=True)
    print(f"| median | | | {statistics.median(ratios):.2f} |")
    print(
        f"\n{os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"diffkit {diffkit.__version__}"
    )


if __name__ == "__main__":
    main()
