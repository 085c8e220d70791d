"""Bits a dimension on Fashion-MNIST: two schedules, fixed and learned variances, same budget.

    python tests/benchmarks/bits_per_dim.py --out DIR [--updates 1500] [--plot terms.png]

Trains `simple` and `hybrid` with `learned_range` under the linear and the cosine schedule, for as
many updates each, and measures the whole bound on test images. A run that is in DIR already is not
trained again. Prints a Markdown table, and draws which t costs how many bits.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch

import diffkit
from diffkit.core.metric import Measured

mpl.use("Agg")

DEBIAN = "/usr/share/datasets/fashion-mnist"
CHAIN = 4000
"""T: that of Nichol & Dhariwal (2021), tables 1 and 2."""
VARIANCES = {"simple": ("fixed_large", "fixed_small"), "hybrid": ("learned_range",)}


def dataset(folder: str, part: str) -> dict[str, Any]:
    """The reference to one half of Fashion-MNIST."""
    names = {kind: f"{folder}/{part}-{kind}-idx{n}-ubyte.gz" for kind, n in _FILES.items()}
    return {"id": "idx", "config": names}


_FILES = {"images": 3, "labels": 1}


def spec(folder: str, schedule: str, loss: str, updates: int) -> dict[str, Any]:
    """A small U-Net that predicts epsilon, as the paper's does."""
    unet = {
        "width": 24,
        "multipliers": [1, 2, 2],
        "blocks": 1,
        "attention": [7],
        "groups": 8,
        "dropout": 0.0,
        "learned_variance": loss == "hybrid",
    }
    return {
        "schedule": {"id": schedule, "config": {"steps": CHAIN}},
        "process": "variance-preserving",
        "model": {"id": "unet", "config": unet},
        "parameterization": "epsilon",
        "loss": loss,
        "sampler": "ddpm",
        "dataset": dataset(folder, "train"),
        "training": {
            "steps": updates,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
            "ema_decay": 0.998,
            "checkpoint_every": 500,
        },
    }


def trained(options: argparse.Namespace, schedule: str, loss: str) -> diffkit.Pipeline:
    """The run in the folder, trained now if there is none."""
    run = options.out / f"{schedule}-{loss}"
    if not (run / "spec.json").exists():
        raw = spec(options.data, schedule, loss, options.updates)
        diffkit.build(raw, device="cpu").train(out=run, progress=False)
    return diffkit.load(run)


def measured(options: argparse.Namespace, pipeline: diffkit.Pipeline, variance: str) -> Measured:
    """The bound on test images."""
    config = {"variance": variance, "max_samples": options.samples, "draws": options.draws}
    return pipeline.measure(
        metric={"id": "bits-per-dim", "config": config}, dataset=dataset(options.data, "t10k")
    )


def main() -> None:
    """Train, measure, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default=DEBIAN)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--samples", type=int, default=1000, help="test images")
    parser.add_argument("--draws", type=int, default=20, help="terms drawn for each of them")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    curves = {}
    print("| schedule | loss | variance | bits a dimension | decoder's share |")
    print("| --- | --- | --- | ---: | ---: |", flush=True)
    for schedule in ("linear", "cosine"):
        for loss, variances in VARIANCES.items():
            pipeline = trained(options, schedule, loss)
            for variance in variances:
                found = measured(options, pipeline, variance)
                value, error = (found.values[k] for k in ("bits_per_dim", "standard_error"))
                print(
                    f"| {schedule} | `{loss}` | `{variance}` | {value:.3f} ± {error:.3f} | "
                    f"{found.values['decoder']:.3f} |",
                    flush=True,
                )
                curves[f"{schedule}, {variance}"] = found.curves["terms"]
    print(
        f"\n{options.updates} updates of 32, T = {CHAIN}; {options.samples} test images, "
        f"{options.draws} terms of each; {os.cpu_count()} cores, {torch.get_num_threads()} "
        f"threads, {platform.machine()}, torch {torch.__version__}, diffkit {diffkit.__version__}"
    )
    if options.plot is not None:
        plot(options.plot, curves)


def plot(path: Path, curves: dict[str, torch.Tensor]) -> None:
    """The decoder's bits, and the mean of a term in each of forty parts of the chain."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for name, terms in curves.items():
        # The decoder alone, and then equal parts of the logarithm.
        edges = torch.logspace(math.log10(1.5 / CHAIN), 0, 41, dtype=torch.float64)
        part = torch.bucketize(terms[:, 0].contiguous(), edges)
        parts = part.unique()
        means = torch.stack([terms[part == p].mean(0) for p in parts])
        axes.plot(means[:, 0], means[:, 1], ".-", label=name)
    axes.set(xlabel="t", ylabel="bits a dimension of one term", xscale="log", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
