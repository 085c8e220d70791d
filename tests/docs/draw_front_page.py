"""The picture of the front page: one exact denoiser, and one word of the spec swapped in each row.

    python tests/docs/draw_front_page.py --out docs/images/one-word.png

The data are a mixture of three Gaussians on a line, whose exact denoiser is known, so that nothing
is trained. Each row is a trajectory of every sample from noise (left) to data (right), over the
density of the noisy data at that time. Rows one and two differ in the sampler, two and three in the
process.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image

from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.core import GaussianProcess, GaussianStepSampler, SampleNoise, Sampler
from diffkit.testing import ExactMixture

matplotlib.use("agg")

MEANS, VARIANCES, WEIGHTS = (-1.6, 0.2, 1.5), (0.02, 0.02, 0.02), (0.3, 0.3, 0.4)
STEPS, SAMPLES, SEED = 200, 40, 4
SPAN = 3.0
INK, FAINT, WARM = "#0d1526", "#1f6f8b", "#f6c667"


class DDIM(GaussianStepSampler):
    """The plugin of the front page."""

    def step(self, prediction, t, s, noise):
        return s.alpha * prediction.x_0 + s.sigma * prediction.epsilon


def trajectories(process: GaussianProcess, sampler: Sampler) -> tuple[np.ndarray, np.ndarray]:
    """The times `[n]` that are visited, and every sample there, `[n, samples]`."""
    denoiser = ExactMixture(process, [[mean] for mean in MEANS], list(VARIANCES), list(WEIGHTS))
    noise = SampleNoise(seed=SEED, indices=range(SAMPLES), dtype=torch.float64)
    times = [1 - i / STEPS for i in range(STEPS + 1)]
    x = process.prior((SAMPLES, 1), noise)
    states = [x, *(s.x for s in sampler.trajectory(denoiser, x, times, noise, {}))]
    return np.array(times), torch.cat(states, dim=1).T.numpy()


def density(process: GaussianProcess, times: np.ndarray, x: np.ndarray) -> np.ndarray:
    """That of x_t, over its largest value at each time; `[x, times]`."""
    columns = []
    for t in times:
        scales = process.scales(process.log_snr(torch.tensor(float(t), dtype=torch.float64)))
        alpha, sigma = float(scales.alpha), float(scales.sigma)
        total = np.zeros_like(x)
        for mean, variance, weight in zip(MEANS, VARIANCES, WEIGHTS, strict=True):
            deviation = (alpha**2 * variance + sigma**2) ** 0.5
            total += weight * np.exp(-(((x - alpha * mean) / deviation) ** 2) / 2) / deviation
        columns.append(total / total.max())
    return np.stack(columns, axis=1)


def draw(out: Path) -> None:
    from matplotlib import pyplot as plt

    schedule = Cosine()
    rows = (
        (VariancePreserving(schedule=schedule), DDPM()),
        (VariancePreserving(schedule=schedule), DDIM()),
        (RectifiedFlow(schedule=schedule), DDIM()),
    )
    colours = LinearSegmentedColormap.from_list("night", [INK, "#16334d", FAINT, "#8fd3c7"])
    x = np.linspace(-SPAN, SPAN, 240)
    figure, axes = plt.subplots(len(rows), 1, figsize=(6.2, 3.2), dpi=190)
    for axis, (process, sampler) in zip(axes, rows, strict=True):
        times, paths = trajectories(process, sampler)
        seen = density(process, np.linspace(1, 0, 320), x)
        axis.imshow(
            seen, extent=(1, 0, -SPAN, SPAN), origin="lower", aspect="auto", cmap=colours,
            interpolation="bilinear",
        )  # fmt: skip
        axis.plot(times, paths, color=WARM, linewidth=0.55, alpha=0.75)
        axis.set(xlim=(1, 0), ylim=(-SPAN, SPAN))
        axis.axis("off")
    figure.subplots_adjust(left=0, right=1, top=1, bottom=0, hspace=0.04)
    figure.savefig(out, facecolor=INK)
    with Image.open(out) as picture:  # a quarter of the size
        picture.convert("RGB").quantize(128, dither=Image.Dither.FLOYDSTEINBERG).save(
            out, optimize=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    draw(parser.parse_args().out)
