"""Peak memory of sampling to disk, for different numbers of images.

python tests/benchmarks/memory.py [--json FILE]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Record, main

import diffkit

NUMBERS = (100, 1000, 10_000)
# Not getrusage: what it counts as this process's peak includes that of whoever started it.
PROGRAM = """
import sys
from pathlib import Path
from diffkit.cli.main import cli
cli.main(sys.argv[1:], standalone_mode=False)
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "steps": 4,
    "data": {"shape": [3, 32, 32], "range": [-1, 1]},
}


def measure() -> list[Record]:
    """Each number in a process of its own, to a folder of images and to one file of arrays."""
    record = Record("Peak memory of sampling 3x32x32", ("images", "to a folder", "to one file"))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        diffkit.build(SPEC, device="cpu").save(run)
        for number in NUMBERS:
            peaks = []
            for out in (f"{folder}/images-{number}/", f"{folder}/samples-{number}.npz"):
                arguments = ["sample", str(run), "--num", str(number), "--out", out]
                command = [sys.executable, "-c", PROGRAM, *arguments]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                peaks.append(int(done.stdout.split()[-1]) / 1024)
            record.add(number, *(f"{peak:.0f} MiB" for peak in peaks))
            record.figures[str(number)] = peaks
    return [record]


if __name__ == "__main__":
    main(measure)
