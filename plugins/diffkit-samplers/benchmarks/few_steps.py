"""Solvers of third order in five to eight steps, against those of second, where data are exact.

    python benchmarks/few_steps.py

prints, for two schedules and the spacings, the root mean square distance from the end of the
probability flow, which a walk of a thousand steps from the same start finds.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from diffkit.bundled.processes.gaussian import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.leading import Leading
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.noise import SampleNoise
from diffkit.core.sampler import Sampler
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.spacing import Spacing
from diffkit.testing import ExactMixture
from diffkit_samplers.ddim import DDIM
from diffkit_samplers.dpmpp_2m import DPMpp2M
from diffkit_samplers.dpmpp_3m import DPMpp3M
from diffkit_samplers.spacings import Karras, Quadratic, UniformLogSNR
from diffkit_samplers.unipc import UniPC

STEPS = (5, 6, 7, 8)
SCHEDULES: Mapping[str, NoiseSchedule] = {"linear": Linear(), "cosine": Cosine()}
SPACINGS: Mapping[str, Spacing] = {
    "leading": Leading(),
    "trailing": Trailing(),
    "samplers.uniform-log-snr": UniformLogSNR(),
    "samplers.karras": Karras(),
    "samplers.quadratic": Quadratic(),
}
SOLVERS: Mapping[str, Sampler] = {
    "ddim": DDIM(),
    "dpmpp-2m": DPMpp2M(),
    "dpmpp-3m": DPMpp3M(),
    "unipc, p = 2": UniPC(p=2),
    "unipc, p = 3": UniPC(p=3),
}
COUNT, FINE = 256, 1000


def end_of(sampler: Sampler, denoiser: ExactMixture, x: Tensor, times: tuple[float, ...]) -> Tensor:
    """Where a walk without noise ends."""
    noise = SampleNoise(seed=0, indices=range(len(x)), dtype=torch.float64)
    with torch.no_grad():
        *_, state = sampler.walk(denoiser, x, times, noise, {})
    return state.x


def errors(schedule: NoiseSchedule, spacing: Spacing, steps: int) -> dict[str, float]:
    """How far each solver ends from the flow."""
    process = VariancePreserving(schedule=schedule)
    denoiser = ExactMixture(
        process, [[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]], [0.02, 0.05, 0.01], [0.5, 0.3, 0.2]
    )
    times = spacing.times(steps, schedule)
    noise = SampleNoise(seed=1, indices=range(COUNT), dtype=torch.float64)
    x = process.prior((COUNT, 2), noise)
    ends = schedule.log_snr(times[0]), schedule.log_snr(schedule.t_min)
    inner = schedule.time_at(torch.lerp(*ends, torch.linspace(0, 1, FINE, dtype=torch.float64)))
    fine = (times[0], *inner[1:-1].tolist(), schedule.t_min, 0.0)
    exact = end_of(DPMpp2M(), denoiser, x, fine)
    return {
        name: float((end_of(sampler, denoiser, x, times) - exact).square().mean().sqrt())
        for name, sampler in SOLVERS.items()
    }


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print(f"| schedule, spacing | steps | {' | '.join(SOLVERS)} |")
    print("| --- |" + " ---: |" * (1 + len(SOLVERS)))
    for schedule_name, schedule in SCHEDULES.items():
        for spacing_name, spacing in SPACINGS.items():
            for steps in STEPS:
                found = errors(schedule, spacing, steps)
                row = " | ".join(f"{value:.3f}" for value in found.values())
                print(f"| {schedule_name}, {spacing_name} | {steps} | {row} |")


if __name__ == "__main__":
    main()
