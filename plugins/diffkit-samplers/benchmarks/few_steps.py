"""Solvers in five to ten steps, against DDIM, where data are exact.

    python benchmarks/few_steps.py

prints, for three schedules and the spacings, the root mean square distance from the end of the
probability flow, which a trajectory of a thousand steps from the same start finds.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.schedules.rectified import Rectified
from diffkit.bundled.spacings.leading import Leading
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.noise import SampleNoise
from diffkit.core.process import GaussianProcess
from diffkit.core.sampler import Sampler
from diffkit.core.spacing import Spacing
from diffkit.testing import ExactMixture
from diffkit_samplers.ddim import DDIM
from diffkit_samplers.dpmpp_2m import DPMpp2M
from diffkit_samplers.dpmpp_3m import DPMpp3M
from diffkit_samplers.spacings import Karras, Quadratic, UniformLogSNR
from diffkit_samplers.unipc import UniPC

STEPS = (5, 6, 8, 10)
PROCESSES: Mapping[str, GaussianProcess] = {
    "linear": VariancePreserving(schedule=Linear()),
    "cosine": VariancePreserving(schedule=Cosine()),
    "rectified": RectifiedFlow(schedule=Rectified()),
}
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
    """Where a trajectory without noise ends."""
    noise = SampleNoise(seed=0, indices=range(len(x)), dtype=torch.float64)
    with torch.no_grad():
        *_, state = sampler.trajectory(denoiser, x, times, noise, {})
    return state.x


def errors(process: GaussianProcess, spacing: Spacing, steps: int) -> dict[str, float]:
    """How far each solver ends from the flow."""
    schedule = process.schedule
    denoiser = ExactMixture(
        process, [[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]], [0.02, 0.05, 0.01], [0.5, 0.3, 0.2]
    )
    times = spacing.times(steps, schedule)
    noise = SampleNoise(seed=1, indices=range(COUNT), dtype=torch.float64)
    x = process.prior((COUNT, 2), noise)
    finite = bool(torch.isfinite(schedule.log_snr(times[0])))
    start = times[0] if finite else 1.0 - 1e-4
    ends = schedule.log_snr(start), schedule.log_snr(schedule.t_min)
    inner = schedule.time_at(torch.lerp(*ends, torch.linspace(0, 1, FINE, dtype=torch.float64)))
    head = (times[0],) if finite else (times[0], start)
    fine = (*head, *inner[1:-1].tolist(), schedule.t_min, 0.0)
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
    for schedule_name, process in PROCESSES.items():
        for spacing_name, spacing in SPACINGS.items():
            if spacing_name == "leading" and process.schedule.steps is None:
                continue  # It is defined on a grid.
            for steps in STEPS:
                found = errors(process, spacing, steps)
                row = " | ".join(f"{value:.3f}" for value in found.values())
                print(f"| {schedule_name}, {spacing_name} | {steps} | {row} |")


if __name__ == "__main__":
    main()
