"""Side by side with diffusers: the same problem, grid and number of calls."""

from __future__ import annotations

import pytest
import torch

from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.testing import ExactMixture
from diffkit_samplers.spacings import UniformLogSNR

from .samplers_problems import DETERMINISTIC, TIGHT, VarianceExploding, end_of

diffusers = pytest.importorskip("diffusers")

LINEAR = Linear()
STEPS = 21
GRID = Trailing().times(STEPS, LINEAR)[:-1]
BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
MEANS, VARIANCES = [[-1.0, 0.0], [1.0, 0.5], [0.0, 2.0]], [0.1, 0.2, 0.3]


@pytest.fixture
def denoiser():
    return ExactMixture(VariancePreserving(schedule=LINEAR), MEANS, VARIANCES)


@pytest.fixture
def x():
    return torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_diffusers(name, denoiser, x, **options):
    """Where 20 steps of theirs lead; their timestep k is our time (k + 1) / 1000.

    The step to s = 0, of first order and the same for all, is left out: it would hide the rest.
    """
    options = {**BETAS, "timestep_spacing": "trailing", **options}
    scheduler = getattr(diffusers, name)(**options)
    scheduler.set_timesteps(STEPS)
    times = [(int(k) + 1) / 1000 for k in scheduler.timesteps]
    assert times == list(GRID)
    for k, t in zip(scheduler.timesteps[:-1], times[:-1], strict=True):
        x = scheduler.step(denoiser(x, t).epsilon, k, x).prev_sample
    return x


def error(end, denoiser, x):
    """Root mean square distance to where the probability flow ends."""
    exact = end_of(TIGHT, denoiser, x, (1.0, GRID[-1]))
    return (end - exact).square().mean().sqrt().item()


SAME = [
    ("dpmpp-2m", "DPMSolverMultistepScheduler", {"solver_order": 2}),
    *(
        (
            f"unipc {p} {variant} True",
            "UniPCMultistepScheduler",
            {"solver_order": p, "solver_type": variant},
        )
        for p in (1, 2)
        for variant in ("bh1", "bh2")
    ),
]


@pytest.mark.parametrize(("name", "theirs", "options"), SAME)
def test_at_least_as_accurate_at_twenty_calls(name, theirs, options, denoiser, x):
    ours = end_of(DETERMINISTIC[name], denoiser, x, GRID)
    other = by_diffusers(theirs, denoiser, x, **options)
    # They are one method, and theirs keeps noise levels in float32.
    assert error(ours, denoiser, x) <= error(other, denoiser, x) + 1e-6
    assert torch.allclose(ours, other, rtol=0, atol=1e-5)


def test_the_third_order_is_one(denoiser, x):
    # Theirs leaves out half of the second derivative, and is of order 2.
    spacing, errors = UniformLogSNR(), []
    for steps in (20, 80):
        grid = spacing.times(steps + 1, LINEAR)[:-1]
        scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS, solver_order=3)
        scheduler.set_timesteps(timesteps=[round(1000 * t) - 1 for t in grid])
        y = x
        for k, t in zip(scheduler.timesteps[:-1], grid[:-1], strict=True):
            y = scheduler.step(denoiser(y, t).epsilon, k, y).prev_sample
        exact = end_of(TIGHT, denoiser, x, (1.0, grid[-1]))
        ours = end_of(DETERMINISTIC["dpmpp-3m"], denoiser, x, grid)
        errors.append([(end - exact).square().mean().sqrt().item() for end in (ours, y)])
    # Ours makes one call more, of 20 and of 80.
    assert errors[0][0] < errors[0][1]
    assert errors[1][0] < 0.6 * errors[1][1]


def test_ddim_agrees(denoiser, x):
    scheduler = diffusers.DDIMScheduler(
        **BETAS, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False
    )
    scheduler.set_timesteps(20)
    times = Trailing().times(20, LINEAR)
    y = x
    for k, t in zip(scheduler.timesteps, times[:-1], strict=True):
        y = scheduler.step(denoiser(y, t).epsilon, k, y).prev_sample
    # Their alpha-bar are products in float32, of which 1e-4 is lost at t = 1.
    assert torch.allclose(end_of(DETERMINISTIC["ddim"], denoiser, x, times), y, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "theirs"), [("euler", "EulerDiscreteScheduler"), ("heun", "HeunDiscreteScheduler")]
)
def test_samplers_in_sigma_agree(name, theirs, x):
    process = VarianceExploding(schedule=LINEAR)
    denoiser = ExactMixture(process, MEANS, VARIANCES)
    scheduler = getattr(diffusers, theirs)(**BETAS, timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS)
    y = x = x * process.scales(process.log_snr(1.0)).sigma
    for k in scheduler.timesteps:
        scheduler.scale_model_input(y, k)
        prediction = denoiser(y, (int(k) + 1) / 1000)
        y = scheduler.step(prediction.epsilon, k, y).prev_sample
    times = Trailing().times(STEPS, LINEAR)
    ours = end_of(DETERMINISTIC[name], denoiser, x, times)
    # Noise levels in float32, of which the largest is 157; samples in single precision.
    assert torch.allclose(ours, y.double(), rtol=0, atol=2e-3)
