"""Every benchmark, one after another: the tables as Markdown, and the figures as JSON.

python tests/benchmarks/run_all.py --out FOLDER [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from harness import environment, limits

NAMES = (
    "imports",
    "sampling_loops",
    "training_overhead",
    "unet_forward",
    "train_step",
    "memory",
)


def main() -> None:
    """Each in a process of its own, so that none changes the next one's memory or threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tables = []
    for name in options.names:
        script = Path(__file__).with_name(f"{name}.py")
        file = options.out / f"{name}.json"
        command = [sys.executable, str(script), "--json", str(file)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        print(done.stdout, flush=True)
        tables.append(done.stdout)
    machine = "; ".join(f"{name} {value}" for name, value in environment().items())
    measured = "; ".join(f"{name} {value:.0f}" for name, value in limits().items())
    foot = f"{machine}.\n\nLimits, measured alongside, in GFLOP/s and GB/s: {measured}.\n"
    print(foot)
    (options.out / "benchmarks.md").write_text("\n".join([*tables, foot]))
    (options.out / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")


if __name__ == "__main__":
    main()
