"""The sampling loops alone, with a model that costs nothing, against diffusers' schedulers.

    python tests/benchmarks/sampling_loops.py [--json FILE]

All take 50 steps, 16 samples of 3x32x32, and are given the same numbers as the network's output.
diffusers' loop is that of its pipelines. The loop by hand has its coefficients in a list of Python
numbers before it starts, and draws one noise for the whole batch: the floor.
"""

from __future__ import annotations

from collections.abc import Callable

import diffusers
import torch
from diffkit_samplers.ddim import DDIM
from diffkit_samplers.dpmpp_2m import DPMpp2M
from diffkit_samplers.euler import Euler
from diffkit_samplers.heun import Heun
from harness import Record, in_turn, main, ratio, verdict
from peers import azula_loop, lucidrains_loop

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.noise import SampleNoise
from diffkit.core.sampler import Sampler

SHAPE, STEPS = (16, 3, 32, 32), 50
CASES: dict[str, tuple[Sampler, str, float]] = {
    "DDIM": (DDIM(), "DDIMScheduler", 2.5),
    "Euler": (Euler(), "EulerDiscreteScheduler", 6.0),
    "Heun": (Heun(), "HeunDiscreteScheduler", 3.5),
    "DPM-Solver++ 2M": (DPMpp2M(), "DPMSolverMultistepScheduler", 3.0),
    "DDPM": (DDPM(), "DDPMScheduler", 1.2),
}


def by_diffkit(sampler: Sampler, x: torch.Tensor, output: torch.Tensor) -> Callable[[], object]:
    process = VariancePreserving(schedule=Linear())
    times = process.levels(Trailing().times(STEPS, process.schedule))

    def network(x, c_noise, condition):
        return output

    # Made once, like the scheduler, for all batches of a pipeline's samples.
    table = GaussianDenoiser(network, Epsilon(), process).preconditioning_table(times)
    denoiser = GaussianDenoiser(network, Epsilon(), process, table=table)

    def trajectory():
        noise = SampleNoise(seed=0, indices=range(len(x)))
        with torch.no_grad():
            for state in sampler.trajectory(denoiser, x, times, noise, {}):
                here = state.x
        return here

    return trajectory


def by_diffusers(name: str, x: torch.Tensor, output: torch.Tensor) -> Callable[[], object]:
    options = {"timestep_spacing": "trailing", "beta_start": 1e-4, "beta_end": 0.02}
    if name in ("DDIMScheduler", "DDPMScheduler"):
        options["clip_sample"] = False
    scheduler = getattr(diffusers, name)(**options, beta_schedule="linear")
    # What is drawn for an image is to depend on its index alone, as in diffkit.
    draws = {"generator": [torch.Generator().manual_seed(i) for i in range(len(x))]}
    arguments = draws if name == "DDPMScheduler" else {}

    def trajectory():
        here = x
        scheduler.set_timesteps(STEPS)
        with torch.no_grad():
            for t in scheduler.timesteps:
                scheduler.scale_model_input(here, t)
                here = scheduler.step(output, t, here, return_dict=False, **arguments)[0]
        return here

    return trajectory


def by_hand(name: str, x: torch.Tensor, output: torch.Tensor) -> Callable[[], object]:
    keep = [0.99 + 1e-4 * i for i in range(STEPS)]

    def deterministic():
        here = x
        for a in keep:
            here = torch.add(here * a, output, alpha=1.0 - a)
        return here

    def ancestral():
        here = x
        for a in keep:
            here = torch.add(here * a, output, alpha=1.0 - a)
            here.add_(torch.randn_like(here), alpha=0.1)
        return here

    loop = ancestral if name == "DDPM" else deterministic

    def without_gradients():
        with torch.no_grad():
            return loop()

    return without_gradients


def measure() -> list[Record]:
    """Every sampler against its peer, in turn, on one thread and a step at a time."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x, output = (torch.randn(SHAPE, generator=generator) for _ in range(2))
    columns = ("sampler", "diffkit", "diffusers", "azula", "denoising-diffusion-pytorch", "by hand")
    record = Record(f"Sampling loops, {STEPS} steps", (*columns, "against diffusers"))
    for name, (sampler, peer, target) in CASES.items():
        calls = {
            "diffusers": by_diffusers(peer, x, output),
            "diffkit": by_diffkit(sampler, x, output),
        }
        if name in ("DDIM", "DDPM", "Euler", "Heun"):
            calls["azula"] = azula_loop(name, STEPS, x, output)
        if name in ("DDIM", "DDPM"):
            calls["denoising-diffusion-pytorch"] = lucidrains_loop(name, STEPS, output)
        if name in ("DDIM", "DDPM", "Euler"):
            calls["by hand"] = by_hand(name, x, output)
        timings = in_turn(calls, 20, warmups=3)
        found = ratio(timings, "diffusers", "diffkit")
        times = (timings.get(column, "") for column in columns[1:])
        record.add(name, *times, verdict(found, target))
        record.figures |= {
            f"{name}, {who}": list(timing.seconds) for who, timing in timings.items()
        }
    return [record]


if __name__ == "__main__":
    main(measure)
