"""Numbers that are known from outside."""

from __future__ import annotations

import pytest
import torch

from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.karras import Karras as KarrasSchedule
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.leading import Leading
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.testing import ExactGaussian
from diffkit_samplers.ddim import DDIM
from diffkit_samplers.dpmpp_2m_sde import DPMpp2MSDE
from diffkit_samplers.euler_ancestral import EulerAncestral
from diffkit_samplers.spacings import Karras

from .samplers_problems import DETERMINISTIC, GivenNoise, end_of

LINEAR = Linear()
TRAILING = {10: 0.369955, 20: 0.431368, 50: 0.471403, 100: 0.485447, 1000: 0.498495}
LEADING = {10: 0.374128, 20: 0.433734, 50: 0.472439, 100: 0.485981, 1000: 0.498495}


@pytest.mark.parametrize(
    ("spacing", "steps", "known"),
    [
        *((Trailing(), steps, known) for steps, known in TRAILING.items()),
        *((Leading(), steps, known) for steps, known in LEADING.items()),
    ],
)
@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_final_deviation_of_ddim(name, spacing, steps, known):
    # The trajectory is linear in where it starts, and starts from N(0, 1).
    denoiser = ExactGaussian(VariancePreserving(schedule=LINEAR), 0.0, 0.25)
    times = spacing.times(steps, LINEAR)
    end = end_of(DETERMINISTIC[name], denoiser, torch.ones(1, 1, dtype=torch.float64), times)
    # Six digits are known.
    assert end.item() == pytest.approx(known, abs=6e-7)


@pytest.mark.parametrize("sampler", [DDIM(eta=1.0), EulerAncestral()])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_full_noise_is_ancestral_sampling(sampler, steps):
    denoiser = ExactGaussian(VariancePreserving(schedule=LINEAR), 0.3, 0.25)
    times = Trailing().times(steps, LINEAR)
    generator = torch.Generator().manual_seed(0)
    x, *rows = torch.randn(steps + 1, 5, 3, generator=generator, dtype=torch.float64)
    ours = list(sampler.trajectory(denoiser, x, times, GivenNoise(rows), {}))
    theirs = list(DDPM().trajectory(denoiser, x, times, GivenNoise(rows), {}))
    for mine, other in zip(ours, theirs, strict=True):
        # The same numbers in another order, over fifty steps.
        assert torch.allclose(mine.x, other.x, rtol=0, atol=1e-12)


def test_the_first_step_of_the_sde_solver_is_ancestral():
    denoiser = ExactGaussian(VariancePreserving(schedule=LINEAR), 0.3, 0.25)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    first, *_ = DPMpp2MSDE().trajectory(denoiser, x, (1.0, 0.6, 0.0), GivenNoise(x.cos()), {})
    other, *_ = DDPM().trajectory(denoiser, x, (1.0, 0.6, 0.0), GivenNoise(x.cos()), {})
    assert torch.allclose(first.x, other.x, rtol=0, atol=1e-14)


def test_samplers_that_are_one_another():
    denoiser = ExactGaussian(VariancePreserving(schedule=LINEAR), 0.3, 0.25)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    times = Trailing().times(20, LINEAR)

    def end(name):
        return end_of(DETERMINISTIC[name], denoiser, x, times)

    # Different ways to one formula; rounding of twenty steps.
    for one, other in (
        ("euler", "ddim"),
        ("dpmpp-2m-sde, eta 0", "dpmpp-2m"),
        ("unipc 1 bh1 False", "ddim"),
        ("unipc 2 bh2 False", "dpmpp-2m"),
    ):
        assert torch.allclose(end(one), end(other), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [5, 18])
def test_edms_grid_on_its_own_schedule(steps):
    """Karras et al. (2022), eq. 5, as the schedule's page says; even times to 0 are another."""
    schedule, rho, least, most = KarrasSchedule(), 7.0, 0.002, 80.0
    share = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    paper = (most ** (1 / rho) + share * (least ** (1 / rho) - most ** (1 / rho))) ** rho

    def levels(spacing):
        times = torch.tensor(spacing.times(steps, schedule)[:-1], dtype=torch.float64)
        return torch.exp(-0.5 * schedule.log_snr(times))

    # The smallest time has sigma_min but for a few per mille.
    assert torch.allclose(levels(Karras(rho=rho)), paper, rtol=5e-3)
    assert levels(Trailing())[-1] > 3 * least
