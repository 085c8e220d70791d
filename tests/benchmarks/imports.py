"""What importing costs: the package, the command line, and a first pipeline.

python tests/benchmarks/imports.py [--json FILE]
"""

from __future__ import annotations

import subprocess
import sys

from harness import Record, in_turn, main

SPEC = (
    "{'schedule': 'cosine', 'process': 'variance-preserving', 'model': 'mlp', 'loss': 'simple', "
    "'sampler': 'ddpm', 'data': {'shape': [2]}}"
)
PROGRAMS = {
    "python alone": "pass",
    "import torch": "import torch",
    "import diffkit": "import diffkit",
    "diffkit list": (
        "import sys; sys.stdout = sys.stderr; from diffkit.cli.main import cli; "
        "cli.main(['list'], standalone_mode=False)"
    ),
    "a first pipeline": f"import torch; import diffkit; diffkit.build({SPEC})",
}


def measure() -> list[Record]:
    """Whole processes, in turn."""

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    calls = {name: (lambda code=code: run(code)) for name, code in PROGRAMS.items()}
    timings = in_turn(calls, 11, warmups=1)
    alone, torch = timings["python alone"].median, timings["import torch"].median
    own = {
        "import diffkit": (timings["import diffkit"].median - alone, 0.050, "s beyond Python"),
        "diffkit list": (timings["diffkit list"].median / torch, 0.2, "of torch's import"),
        "a first pipeline": (timings["a first pipeline"].median - torch, 0.150, "s beyond torch"),
    }
    record = Record("Imports", ("what", "time", "cost", "target"))
    for name, timing in timings.items():
        cost, target, unit = own.get(name, (0.0, 0.0, ""))
        met = "met" if cost <= target else "missed"
        cells = (f"{cost:.3f} {unit}", f"at most {target:g}: {met}") if unit else ("", "")
        record.add(name, timing, *cells)
        record.figures[name] = list(timing.seconds)
    return [record]


if __name__ == "__main__":
    main(measure)
