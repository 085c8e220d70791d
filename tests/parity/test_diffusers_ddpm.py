"""DDPM agrees with diffusers' DDPMScheduler wherever both define the same thing.

diffusers keeps its tables in float32, where `1 - alpha_bar` has lost most of its digits at
little noise (1e-4 of them are left at the first step), and indexes from 0: its timestep is
k - 1. So most tests give its scheduler tables in float64, made here from the papers' formulas,
and ask for agreement to 1e-9: then the formulas agree, and not only nearly. Others take it as it
is shipped and ask for what float32 allows.

One difference is left out on purpose: on a sub-grid that does not end at index 1 (trailing, 50
steps), diffusers adds noise in its last step too, with `fixed_large` even the whole step's beta,
and so returns noisy samples. There it is given zeros for that noise.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.leading import Leading
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.clipping import ClippedDenoiser
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.model import EpsilonModel
from diffkit.core.noise import Noise

pytest.importorskip("diffusers")

from diffusers.schedulers import scheduling_ddpm

SCHEDULES = {"linear": Linear(), "squaredcos_cap_v2": Cosine()}
PREDICTIONS = {"epsilon": Epsilon(), "sample": X0(), "v_prediction": Velocity()}
SPACINGS = {"trailing": Trailing(), "leading": Leading()}

every_schedule = pytest.mark.parametrize("betas", SCHEDULES)
every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)
every_variance = pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
every_spacing = pytest.mark.parametrize("spacing", SPACINGS)
clipped_or_not = pytest.mark.parametrize("clip", [True, False], ids=["clip", "free"])


class Wavy(EpsilonModel):
    """A fixed smooth function of the sample and the index, nothing like an optimal network."""

    def forward(self, x, c_noise, condition):
        index = c_noise.to(x.dtype).reshape(-1, 1, 1, 1) / 1000
        return 0.8 * torch.sin(1.7 * x + 3 * index) + 0.1 * x.roll(1, dims=-1)


class Recorded(Noise):
    """The numbers of a list, in turn; also in the form in which diffusers asks."""

    def __init__(self, numbers):
        self.numbers, self.used = numbers, 0

    def normal(self, shape):
        number = self.numbers[self.used]
        self.used += 1
        assert tuple(shape) == tuple(number.shape)
        return number

    def uniform(self, shape):
        raise AssertionError

    def as_randn_tensor(self, shape, generator=None, device=None, dtype=None, layout=None):
        return self.normal(shape).to(dtype)


def textbook_betas(name):
    k = torch.arange(1, 1001, dtype=torch.float64)
    if name == "linear":
        return 1e-4 + (k - 1) / 999 * (0.02 - 1e-4)

    def signal(t):
        return torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return (1 - signal(k / 1000) / signal((k - 1) / 1000)).clamp(max=0.999)


def theirs(betas, in_float64=True, **config):
    scheduler = scheduling_ddpm.DDPMScheduler(beta_schedule=betas, **config)
    if in_float64:
        scheduler.betas = textbook_betas(betas)
        scheduler.alphas = 1 - scheduler.betas
        scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
        scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


def ours(betas, prediction, clip):
    process = VariancePreserving(schedule=SCHEDULES[betas])
    denoiser = GaussianDenoiser(Wavy(), PREDICTIONS[prediction], process)
    return ClippedDenoiser(denoiser, (-1.0, 1.0)) if clip else denoiser


def random(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@every_schedule
def test_alpha_bar(betas):
    schedule = SCHEDULES[betas]
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha_bar = torch.sigmoid(schedule.log_snr(t))
    # A product of a thousand float64 factors.
    assert torch.allclose(alpha_bar, theirs(betas).alphas_cumprod, rtol=1e-12, atol=0)
    # A product of a thousand float32 factors, the last of which, for cosine, is 1 - 0.999.
    shipped = theirs(betas, in_float64=False).alphas_cumprod.double()
    assert torch.allclose(alpha_bar, shipped, rtol=6e-5, atol=0)


@every_schedule
def test_noisy_samples(betas):
    scheduler, process = theirs(betas), VariancePreserving(schedule=SCHEDULES[betas])
    x_0, epsilon = random(5, 2, 3, 3), random(5, 2, 3, 3, seed=1)
    indices = torch.tensor([1, 2, 500, 999, 1000])
    # 1 - alpha_bar by subtraction: 1e-16 of 4e-5 at least.
    expected = scheduler.add_noise(x_0, epsilon, indices - 1)
    actual = process.diffuse(x_0, indices.double() / 1000, epsilon)
    assert torch.allclose(actual, expected, rtol=0, atol=1e-10)


@every_schedule
@every_spacing
@pytest.mark.parametrize("steps", [1, 2, 4, 10, 50, 100, 250, 1000])
def test_the_times_of_a_trajectory(betas, spacing, steps):
    scheduler = theirs(betas, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    times = SPACINGS[spacing].times(steps, SCHEDULES[betas])
    assert [round(1000 * t) - 1 for t in times[:-1]] == scheduler.timesteps.tolist()


@every_schedule
@every_spacing
@every_variance
@pytest.mark.parametrize("steps", [50, 1000])
def test_reverse_variances(betas, spacing, variance, steps):
    scheduler = theirs(betas, timestep_spacing=spacing, variance_type=variance)
    scheduler.set_timesteps(steps)
    process = VariancePreserving(schedule=SCHEDULES[betas])
    x = torch.zeros(1, 1, dtype=torch.float64)
    fraction = {"fixed_small": 0.0, "fixed_large": 1.0}[variance]
    for t, s in pairwise(SPACINGS[spacing].times(steps, SCHEDULES[betas])[:-1]):
        prediction = process.interpret(x, x, t).with_variance_fraction(fraction)
        actual = process.log_variance(prediction, t, s).exp().item()
        expected = scheduler._get_variance(round(1000 * t) - 1).item()
        # Theirs subtracts from 1 twice: 1e-16 of 4e-5.
        assert actual == pytest.approx(expected, rel=1e-10)


@every_schedule
@every_prediction
@every_variance
@clipped_or_not
@pytest.mark.parametrize("steps", [50, 1000])
def test_one_step(betas, prediction, variance, clip, steps, monkeypatch):
    scheduler = theirs(
        betas,
        prediction_type=prediction,
        variance_type=variance,
        clip_sample=clip,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    denoiser, x_t = ours(betas, prediction, clip), random(2, 3, 4, 4)
    sampler = DDPM(variance=variance)
    times = Trailing().times(steps, SCHEDULES[betas])
    for i in (0, 1, steps // 2, steps - 2, steps - 1):
        t, s = times[i], times[i + 1]
        epsilon = random(2, 3, 4, 4, seed=i + 1)
        their_epsilon = Recorded([epsilon if s > 0 else torch.zeros_like(epsilon)])
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", their_epsilon.as_randn_tensor)
        state = sampler.step(denoiser, x_t, t, s, Recorded([epsilon]))
        index = torch.full((2,), 1000 * t)
        expected = scheduler.step(Wavy()(x_t, index, {}), round(1000 * t) - 1, x_t)
        # Both are good to a few units of the last place where nothing cancels (theirs subtracts
        # from 1, which costs three digits at the last step); and x_0 from epsilon divides by
        # alpha, 5e-5 at the end of cosine.
        scale = 1e-12 * (1 + 1 / torch.sigmoid(SCHEDULES[betas].log_snr(t)).sqrt().item())
        data = expected.pred_original_sample
        assert torch.allclose(state.prediction.x_0, data, rtol=0, atol=scale)
        assert torch.allclose(state.x, expected.prev_sample, rtol=0, atol=scale)


def whole_trajectory(betas, prediction, variance, clip, spacing, steps, monkeypatch, dtype):
    """Our last state and theirs, from the same start and with the same noise."""
    exact = dtype == torch.float64
    scheduler = theirs(
        betas,
        in_float64=exact,
        prediction_type=prediction,
        variance_type=variance,
        clip_sample=clip,
        timestep_spacing=spacing,
    )
    scheduler.set_timesteps(steps)
    noise = [random(2, 3, 4, 4, seed=i, dtype=dtype) for i in range(steps)]
    start, model = noise[0], Wavy()
    mine, their_noise = Recorded(noise[1:]), Recorded([*noise[1:], torch.zeros_like(start)])
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", their_noise.as_randn_tensor)
    denoiser = ours(betas, prediction, clip)
    times = SPACINGS[spacing].times(steps, SCHEDULES[betas])
    *_, state = DDPM(variance=variance).trajectory(denoiser, start, times, mine, {})
    x = start
    for index in scheduler.timesteps.tolist():
        output = model(x, torch.full((2,), index + 1.0), {})
        x = scheduler.step(output, index, x).prev_sample
    assert mine.used == steps - 1
    assert their_noise.used == (steps if scheduler.timesteps[-1] > 0 else steps - 1)
    return state.x, x


@every_schedule
@every_prediction
@every_variance
@clipped_or_not
@every_spacing
def test_a_trajectory_of_50_steps(betas, prediction, variance, clip, spacing, monkeypatch):
    actual, expected = whole_trajectory(
        betas, prediction, variance, clip, spacing, 50, monkeypatch, torch.float64
    )
    # Rounding of 1e-14 a step; relative to how large x became, since without clipping this model,
    # far from optimal, makes trajectories from epsilon diverge (cosine starts with a division by
    # 5e-5).
    size = max(1.0, expected.abs().max().item())
    assert torch.allclose(actual, expected, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize(
    ("betas", "prediction", "variance", "clip"),
    [
        ("linear", "epsilon", "fixed_large", True),
        ("linear", "v_prediction", "fixed_small", False),
        ("squaredcos_cap_v2", "epsilon", "fixed_small", True),
        ("squaredcos_cap_v2", "sample", "fixed_large", False),
    ],
)
def test_a_trajectory_of_1000_steps(betas, prediction, variance, clip, monkeypatch):
    actual, expected = whole_trajectory(
        betas, prediction, variance, clip, "trailing", 1000, monkeypatch, torch.float64
    )
    # A thousand steps of 1e-14 each, as above, for values up to 4.
    assert torch.allclose(actual, expected, rtol=0, atol=2e-11)


@every_schedule
@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
@pytest.mark.parametrize(
    ("variance", "steps"), [("fixed_small", 50), ("fixed_large", 50), ("fixed_small", 1000)]
)
def test_a_trajectory_as_shipped_in_float32(betas, prediction, variance, steps, monkeypatch):
    actual, expected = whole_trajectory(
        betas, prediction, variance, True, "trailing", steps, monkeypatch, torch.float32
    )
    assert actual.dtype == torch.float32
    # float32 rounds at 1e-7 a step, and their float32 tables are good to 1e-5 only, but for the
    # last steps of 1000: 1e-3 of a deviation of 0.01.
    assert torch.allclose(actual, expected, rtol=0, atol=1e-4 if steps == 50 else 1e-3)
