"""Error against model calls of all samplers, on a mixture of Gaussians whose flow is known.

    python benchmarks/error_against_calls.py --out ../../docs/images/error-against-calls.png

Prints Markdown tables and draws a picture. Nothing is trained: the denoiser is exact, so every
error is the sampler's own.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor

from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.denoiser import Denoiser, Times
from diffkit.core.model import Condition
from diffkit.core.noise import SampleNoise
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.sampler import Sampler
from diffkit.core.schedule import Time
from diffkit.testing import ExactMixture
from diffkit_samplers.ddim import DDIM
from diffkit_samplers.dpmpp_2m import DPMpp2M
from diffkit_samplers.dpmpp_2m_sde import DPMpp2MSDE
from diffkit_samplers.dpmpp_3m import DPMpp3M
from diffkit_samplers.euler import Euler
from diffkit_samplers.heun import Heun
from diffkit_samplers.ode import ODE
from diffkit_samplers.plms import PLMS
from diffkit_samplers.spacings import UniformLogSNR
from diffkit_samplers.unipc import UniPC

MEANS = [[-1.0, 0.0], [1.0, 0.5], [0.0, 2.0]]
VARIANCES = [0.02, 0.05, 0.1]
CALLS = (5, 10, 20, 40, 80, 160)
FLOWS = {
    "ddim, euler": DDIM(),
    "heun": Heun(),
    "plms": PLMS(),
    "dpmpp-2m": DPMpp2M(),
    "dpmpp-3m": DPMpp3M(),
    "unipc, p = 2": UniPC(p=2),
    "unipc, p = 3": UniPC(p=3),
}
DRAWS = {
    "ddpm, ddim and euler-ancestral with eta 1": DDPM(),
    "ddim, eta 0.5": DDIM(eta=0.5),
    "euler, churn 5": Euler(churn=5.0),
    "heun, churn 5": Heun(churn=5.0),
    "dpmpp-2m-sde": DPMpp2MSDE(),
}
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
STARTS, SAMPLES = 256, 20_000


class Counting(Denoiser):
    """Counts calls."""

    def __init__(self, inner: ExactMixture) -> None:
        self._inner, self.calls = inner, 0

    @property
    def process(self) -> VariancePreserving:
        process = self._inner.process
        assert isinstance(process, VariancePreserving)
        return process

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> GaussianPrediction:
        self.calls += 1
        return self._inner(x_t, t)


@dataclass(frozen=True)
class Point:
    """One trajectory: how often it asked, and how far it missed."""

    calls: int
    error: float


@cache
def denoiser() -> ExactMixture:
    """The exact denoiser of the mixture under DDPM's linear schedule."""
    return ExactMixture(VariancePreserving(schedule=Linear()), MEANS, VARIANCES)


def final_sample(sampler: Sampler, x: Tensor, times: Sequence[float]) -> tuple[Tensor, int]:
    """The end of the trajectory, and its calls."""
    asked = Counting(denoiser())
    noise = SampleNoise(seed=0, indices=range(len(x)), dtype=torch.float64)
    *_, end = sampler.trajectory(asked, x, times, noise, {})
    return end.x, asked.calls


def times_for(sampler: Sampler, calls: int) -> tuple[float, ...]:
    """The trajectory, even in log-SNR, with the most steps that take no more than so many calls."""
    schedule = denoiser().process.schedule
    for steps in range(calls, 0, -1):
        times = UniformLogSNR().times(steps, schedule)
        asked = sampler.calls(times)
        if asked is not None and asked <= calls:
            return times
    raise AssertionError("one step takes one call")


def flow_errors() -> Mapping[str, list[Point]]:
    """Root mean square distance from the end of the exact probability flow."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STARTS, 2, generator=generator, dtype=torch.float64)
    exact, _ = final_sample(ODE(rtol=1e-10, atol=1e-10), x, (1.0, 0.0))

    def point(sampler: Sampler, times: tuple[float, ...]) -> Point:
        end, calls = final_sample(sampler, x, times)
        return Point(calls, float((end - exact).square().mean().sqrt()))

    found = {
        name: [point(sampler, times_for(sampler, calls)) for calls in CALLS]
        for name, sampler in FLOWS.items()
    }
    adaptive = [point(ODE(rtol=tolerance, atol=tolerance), (1.0, 0.0)) for tolerance in TOLERANCES]
    return {**found, "ode": adaptive}


def data(seed: int, count: int = SAMPLES) -> Tensor:
    """Exact samples of the mixture."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(MEANS), (count,), generator=generator)
    spread = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    deviations = torch.tensor(VARIANCES, dtype=torch.float64).sqrt()
    return torch.tensor(MEANS, dtype=torch.float64)[which] + deviations[which, None] * spread


def ordered(samples: Tensor) -> Tensor:
    """The samples along 64 even directions, each sorted; averages of neighbours where many."""
    angles = torch.arange(64, dtype=torch.float64) * torch.pi / 64
    along = samples @ torch.stack([angles.cos(), angles.sin()])
    return along.sort(0).values.reshape(SAMPLES, -1, 64).mean(1)


@cache
def known() -> Tensor:
    """The data's quantiles, from ten times as many samples."""
    return ordered(data(1, 10 * SAMPLES))


def sliced(samples: Tensor) -> float:
    """The sliced Wasserstein-1 distance from the data."""
    return float((ordered(samples) - known()).abs().mean())


def draw_errors() -> tuple[Mapping[str, list[Point]], float, float]:
    """How far samples are from the data; and data themselves, on average and at most."""
    floors = [sliced(data(seed)) for seed in range(3, 11)]
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(SAMPLES, 2, generator=generator, dtype=torch.float64)
    found = {}
    for name, sampler in {**DRAWS, "for comparison: ddim": DDIM()}.items():
        points = []
        for calls in CALLS:
            end, asked = final_sample(sampler, x, times_for(sampler, calls))
            points.append(Point(asked, sliced(end)))
        found[name] = points
    return found, sum(floors) / len(floors), max(floors)


def table(title: str, rows: Mapping[str, list[Point]]) -> str:
    """A Markdown table; a sampler that made another number of calls says so."""
    lines = [
        f"| {title} | {' | '.join(str(calls) for calls in CALLS)} |",
        "| --- |" + " ---: |" * len(CALLS),
    ]
    for name, points in rows.items():
        cells = (
            f"{point.error:.1e}" + ("" if point.calls == calls else f" ({point.calls})")
            for point, calls in zip(points, CALLS, strict=True)
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(
    flows: Mapping[str, list[Point]], draws: Mapping[str, list[Point]], floor: float, out: Path
) -> None:
    """Both comparisons, side by side."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    titles = ("Probability flow: RMS distance to its end", "Samples: sliced Wasserstein distance")
    for axis, title, rows in zip(axes, titles, (flows, draws), strict=True):
        for marker, (name, points) in zip("osv^DPX*", rows.items(), strict=False):
            calls, errors = [p.calls for p in points], [p.error for p in points]
            axis.loglog(calls, errors, marker=marker, ms=4, lw=1.2, label=name)
        axis.set_xticks(CALLS, [str(calls) for calls in CALLS])
        axis.minorticks_off()
        axis.set_xlabel("model calls")
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    axes[1].axhline(floor, color="0.4", ls=":", label=f"{SAMPLES:,} samples of the data themselves")
    for axis in axes:
        axis.legend(fontsize=7.5)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where the picture goes")
    torch.set_num_threads(1)
    out = parser.parse_args().out
    flows = flow_errors()
    draws, floor, most = draw_errors()
    print(table("RMS error; model calls", flows), end="\n\n")
    print(table("Sliced Wasserstein-1; model calls", draws), end="\n\n")
    print(f"{SAMPLES:,} samples of the data: {floor:.1e} on average of 8, {most:.1e} at most.")
    draw(flows, draws, floor, out)


if __name__ == "__main__":
    main()
