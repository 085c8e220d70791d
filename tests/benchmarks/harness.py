"""What all benchmarks share: contestants in turn, medians with their spread, and a record."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import torch

import diffkit

Calls = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition."""

    seconds: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        unit, scale = ("ms", 1e3) if self.median >= 1e-3 else ("us", 1e6)
        low, high = min(self.seconds) * scale, max(self.seconds) * scale
        return f"{self.median * scale:.4g} {unit} ({low:.4g} to {high:.4g})"


@dataclass
class Record:
    """One question: a Markdown table, and the same as JSON."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def add(self, *cells: object, **figures: object) -> None:
        self.rows.append(tuple(str(cell) for cell in cells))
        self.figures.update(figures)

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", f"| {' | '.join(self.columns)} |"]
        lines.append("|" + " --- |" * len(self.columns))
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join(lines) + "\n"


def in_turn(calls: Calls, repeats: int, warmups: int = 2) -> dict[str, Timing]:
    """Time the calls one after another, again and again, so that a slow moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(warmups + repeats):
        say(f"{', '.join(calls)}: {repeat + 1} of {warmups + repeats}")
        for name, call in calls.items():
            synchronise()
            start = time.perf_counter()
            call()
            synchronise()
            if repeat >= warmups:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(found) for name, found in seconds.items()}


def ratio(timings: Mapping[str, Timing], peer: str, ours: str) -> float:
    """How many times faster `ours` is: the median of the ratios of neighbouring repetitions."""
    pairs = zip(timings[peer].seconds, timings[ours].seconds, strict=True)
    return statistics.median(p / o for p, o in pairs)


def verdict(found: float, target: float) -> str:
    """A ratio beside its target."""
    return f"{found:.2f}x of {target:g}x: {'met' if found >= target else 'missed'}"


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def say(text: str) -> None:
    """What is being done, on standard error: tables go to standard output."""
    print(text, file=sys.stderr, flush=True)


_HOPELESS = 20.0


@cache
def precisions() -> tuple[str, ...]:
    """Those that this device computes in; what it only emulates takes minutes, and is left out."""
    squares = {
        name: torch.randn(256, 256, device=device(), dtype=dtype) for name, dtype in _DTYPES.items()
    }
    products = {name: partial(torch.matmul, a, a) for name, a in squares.items()}
    fastest = {name: min(timing.seconds) for name, timing in in_turn(products, 5).items()}
    found = [n for n, best in fastest.items() if best < _HOPELESS * fastest["float32"]]
    for name in fastest.keys() - set(found):
        times = fastest[name] / fastest["float32"]
        say(f"{name} is left out: a product takes {times:.0f} times as long as in float32 here")
    return tuple(found)


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_best: dict[str, float] = {}


def limits() -> Mapping[str, float]:
    """What this machine can do, in GFLOP/s and GB/s: the best there has been in this run.

    Measured anew at each call, as another moment may be a slower one.
    """
    for name, speed in _measured_limits().items():
        _best[name] = max(speed, _best.get(name, 0.0))
    return _best


def _measured_limits() -> Mapping[str, float]:
    found = {}
    where = device()
    for name in precisions():
        dtype = _DTYPES[name]
        size = 8192 if where.type == "cuda" else 2048
        a = torch.randn(size, size, device=where, dtype=dtype)
        x = torch.randn(16, 256, 32, 32, device=where, dtype=dtype)
        conv = torch.nn.Conv2d(256, 256, 3, padding=1, device=where, dtype=dtype)
        conv, x = (v.to(memory_format=torch.channels_last) for v in (conv, x))
        with torch.no_grad():
            timings = in_turn(
                {"matmul": lambda a=a: a @ a, "conv": lambda x=x, conv=conv: conv(x)}, 10
            )
        flops = {"matmul": 2 * size**3, "conv": 2 * 16 * 32 * 32 * 256 * 256 * 9}
        found |= {f"{k} {name}": flops[k] / min(timings[k].seconds) / 1e9 for k in flops}
    x = torch.empty(2**28, device=where, dtype=torch.uint8)
    y = torch.empty_like(x)
    copied = in_turn({"copy": lambda: y.copy_(x)}, 10)["copy"]
    found["copy"] = 2 * x.numel() / min(copied.seconds) / 1e9
    return found


def environment() -> dict[str, object]:
    """Machine, versions and commit."""
    root = Path(__file__).parents[2]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True
    )
    where = device()
    return {
        "device": torch.cuda.get_device_name() if where.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffkit": diffkit.__version__,
        "commit": commit.stdout.strip() or "unknown",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{os.cpu_count()} cores of {line.partition(':')[2].strip()}"
    return platform.machine()


def in_reach(calls: Calls) -> Calls:
    """The contestants whose precision, the last word of their names, this device computes in."""
    return {name: call for name, call in calls.items() if name.split()[-1] in precisions()}


def main(measure: Callable[[], Sequence[Record]]) -> None:
    """Run a benchmark as a script: print its tables, and write them as JSON where wanted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    say("what this machine can do ...")
    limits()
    records = measure()
    for record in records:
        print(record.markdown(), flush=True)
    if options.json:
        figures = {record.title: record.figures for record in records}
        whole = {"environment": environment(), "limits": dict(limits()), "figures": figures}
        options.json.write_text(json.dumps(whole, indent=2) + "\n")
