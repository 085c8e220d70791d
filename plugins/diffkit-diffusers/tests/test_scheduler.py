"""A trajectory with a scheduler of diffusers is the loop that one writes by hand with diffusers."""

from __future__ import annotations

import pytest
import torch
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.leading import Leading
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.noise import SampleNoise
from diffkit.errors import ComponentError, SpecError
from diffkit.testing import ExactGaussian
from diffusers import schedulers

from diffkit_diffusers.sampler import DiffusersScheduler, sample_generators
from diffkit_diffusers.schedulers import TRAITS, betas_of

from .small_pipelines import ours, start

SIGMA_SPACE = ("Euler", "EulerAncestral", "Heun", "LMS")
TABLES = {"linear": {}, "cosine": {"beta_schedule": "squaredcos_cap_v2"}}
LOOPS = {
    "DDIM": ("DDIMScheduler", {"clip_sample": False}, 20),
    "DDIM clipped": ("DDIMScheduler", {"clip_sample": True}, 20),
    "DDIM thresholded": ("DDIMScheduler", {"thresholding": True, "clip_sample": False}, 20),
    "DDPM": ("DDPMScheduler", {"variance_type": "fixed_large"}, 20),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}, 20),
    "DPM++ 3M": ("DPMSolverMultistepScheduler", {"solver_order": 3}, 20),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, 20),
    "DPM++ 2S": ("DPMSolverSinglestepScheduler", {}, 20),
    "UniPC": ("UniPCMultistepScheduler", {}, 20),
    "UniPC 3": ("UniPCMultistepScheduler", {"solver_order": 3}, 20),
    "Euler": ("EulerDiscreteScheduler", {}, 20),
    "Euler ancestral": ("EulerAncestralDiscreteScheduler", {}, 20),
    "Heun": ("HeunDiscreteScheduler", {}, 20),
    "LMS": ("LMSDiscreteScheduler", {}, 20),
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True}, 20),
    "one step": ("DDIMScheduler", {"clip_sample": False}, 1),
    "PNDM in one step": ("PNDMScheduler", {"skip_prk_steps": True}, 1),
    "PNDM in two steps": ("PNDMScheduler", {"skip_prk_steps": True}, 2),
    "Heun in one step": ("HeunDiscreteScheduler", {}, 1),
    "all steps": ("EulerDiscreteScheduler", {}, 40),
}


def by_hand(pipeline, scheduler, x, generators):
    """The usual loop of diffusers, from x at the first of its times."""
    in_sigma_space = type(scheduler).__name__.startswith(SIGMA_SPACE)
    if in_sigma_space:
        x = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    denoiser, T = pipeline.system.denoiser(), pipeline.parts.schedule.steps
    for index in scheduler.timesteps:
        with torch.no_grad():
            scaled = scheduler.scale_model_input(x, index)
            epsilon = denoiser(scaled, (float(index) + 1) / T).epsilon
            arguments = {"generator": generators} if takes_generator(scheduler) else {}
            x = scheduler.step(epsilon, index, x, **arguments).prev_sample
    return x


def takes_generator(scheduler):
    return "generator" in scheduler.step.__code__.co_varnames


@pytest.mark.parametrize("schedule", TABLES)
@pytest.mark.parametrize(("name", "options", "steps"), LOOPS.values(), ids=LOOPS)
def test_a_trajectory_is_the_loop_by_hand(name, options, steps, schedule):
    T = 1000 if steps < 40 else 40
    spacing = "leading" if name == "DDPMScheduler" else "trailing"
    config = {"steps": T} | ({"rescale": False} if schedule == "linear" else {})
    pipeline = ours(
        schedule={"id": schedule, "config": config}, spacing=spacing, parameterization="velocity"
    )
    choice = {"id": "diffusers.scheduler", "config": {"scheduler": name, "options": options}}
    # Of theirs, DDPM alone clips unless it is told not to, and as a run does.
    clip = name == "DDPMScheduler"
    actual = pipeline.sample(2, steps=steps, sampler=choice, clip=clip, progress=False)
    scheduler = getattr(schedulers, name)(
        num_train_timesteps=T,
        **TABLES[schedule] | {"beta_start": 1e-4, "beta_end": 0.02} | options,
        **({"set_alpha_to_one": True} if name == "PNDMScheduler" else {}),
        **({} if "Singlestep" in name else {"timestep_spacing": spacing}),
    )
    if "Singlestep" in name:
        times = Trailing().times(steps, pipeline.parts.schedule)
        scheduler.set_timesteps(timesteps=[round(t * T) - 1 for t in times[:-1]])
    else:
        scheduler.set_timesteps(steps)
    noise = SampleNoise(seed=0, indices=[0, 1])
    x = pipeline.parts.process.prior((2, 1, 8, 8), noise)
    expected = by_hand(pipeline, scheduler, x, sample_generators(noise, 2))
    # The same code on the same numbers, but for betas that here come from a float64 table and
    # there from float32 arithmetic: 6e-8 each, summed up over a thousand, and 6e-5 of cosine's
    # last alpha, 1 - 0.999.
    size = max(1.0, float(expected.abs().max()))
    assert torch.allclose(actual, expected, rtol=0, atol=2e-4 * size)


def test_the_betas_are_those_of_the_schedule():
    for schedule in (Linear(), Cosine(), Linear(steps=50)):
        found = torch.tensor(betas_of(schedule), dtype=torch.float64)
        # From a log-SNR and back, in float64, where 1 - alpha_bar is 4e-5 at least.
        assert torch.allclose(found, schedule.betas, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", TRAITS)
def test_the_exact_denoiser_of_a_gaussian(name):
    """Data N(0, 1/4): deterministic solvers at 50 steps come near its standard deviation."""
    process = VariancePreserving(schedule=Linear())
    spacing = Leading() if name == "DDPMScheduler" else Trailing()
    times = spacing.times(50, process.schedule)
    noise = SampleNoise(seed=0, indices=range(4000))
    x = process.prior((4000, 1), noise)
    sampler = DiffusersScheduler(scheduler=name)
    *_, state = sampler.trajectory(ExactGaussian(process, covariance=0.25), x, times, noise, {})
    # DDIM is known to end at .471 (trailing; .472 leading), fixed_small above .4; the others are
    # of higher order. 4000 samples know a deviation to 1 %.
    assert float(state.x.std()) == pytest.approx(0.5, abs=0.07)
    assert abs(float(state.x.mean())) < 0.05


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_euler_and_ddim_end_where_the_closed_form_says(name):
    process = VariancePreserving(schedule=Linear())
    times = Trailing().times(50, process.schedule)
    noise = SampleNoise(seed=0, indices=range(2))
    x = torch.tensor([[1.0], [-2.0]])
    sampler = DiffusersScheduler(scheduler=name)
    *_, state = sampler.trajectory(ExactGaussian(process, covariance=0.25), x, times, noise, {})
    # The final deviation of DDIM from N(0, 1) in 50 steps; float32 tables.
    assert torch.allclose(state.x, 0.471403 * x, rtol=2e-4)


@pytest.mark.parametrize("name", TRAITS)
def test_one_state_for_each_time_and_calls_as_declared(name):
    process = VariancePreserving(schedule=Linear())
    exact = ExactGaussian(process, covariance=0.25)
    asked = []

    class Counting(ExactGaussian):
        def __call__(self, x_t, t, *, given=None, times=None):
            asked.append(t)
            return exact(x_t, t)

    spacing = Leading() if name == "DDPMScheduler" else Trailing()
    for steps in (1, 2, 5, 10):
        asked.clear()
        times = spacing.times(steps, process.schedule)
        if name == "DDPMScheduler":
            times = (1.0, *times)
        noise = SampleNoise(seed=0, indices=range(2))
        sampler = DiffusersScheduler(scheduler=name)
        states = sampler.trajectory(
            Counting(process, covariance=0.25), torch.ones(2, 1), times, noise, {}
        )
        assert [state.t for state in states] == list(times[1:])
        assert len(asked) == sampler.calls(times)
        assert {round(1000 * t) for t in asked} == {round(1000 * t) for t in times[:-1]}


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "HeunDiscreteScheduler"])
def test_a_trajectory_that_ends_before_the_data(name):
    process = VariancePreserving(schedule=Linear())
    exact, x = ExactGaussian(process, covariance=0.25), torch.ones(2, 1)
    whole, noise = Trailing().times(100, process.schedule), SampleNoise(seed=0, indices=range(2))
    times = whole[:61]
    sampler = DiffusersScheduler(scheduler=name)
    *_, state = sampler.trajectory(exact, x, times, noise, {})
    assert state.t == times[-1] == pytest.approx(0.4)
    alpha, sigma = process.scales(process.log_snr(state.t))
    # The probability flow keeps x over its deviation; second order, 60 steps of 1/100.
    exact_x = float((0.25 * alpha**2 + sigma**2).sqrt())
    start_x = float((0.25 * process.scales(process.log_snr(1.0)).alpha ** 2 + 1).sqrt())
    assert float(state.x[0]) == pytest.approx(exact_x / start_x, rel=2e-3)


@pytest.mark.parametrize(
    "config",
    [
        {"scheduler": "DDPMScheduler"},
        {"scheduler": "EulerAncestralDiscreteScheduler"},
        {"options": {"algorithm_type": "sde-dpmsolver++"}},
    ],
    ids=str,
)
def test_a_sample_depends_on_its_index_alone(config):
    sampler = {"id": "diffusers.scheduler", "config": config}
    pipeline = ours(spacing="leading", parameterization="velocity", sampler=sampler)
    before = torch.random.get_rng_state()
    together = pipeline.sample(5, steps=5, progress=False)
    apart = pipeline.sample(5, steps=5, batch_size=2, progress=False)
    # The same numbers in another batch: only the order of summation differs.
    assert torch.allclose(together, apart, rtol=0, atol=1e-5)
    assert torch.equal(torch.random.get_rng_state(), before)
    other = pipeline.sample(5, steps=5, seed=1, progress=False)
    assert not torch.allclose(together, other, atol=0.1)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_generators_differ_and_repeat():
    def states(indices, seed=0):
        noise = SampleNoise(seed=seed, indices=indices)
        return [g.initial_seed() for g in sample_generators(noise, len(indices))]

    assert len({*states(range(100)), *states(range(100), seed=1)}) == 200
    assert states([7]) == [states(range(10))[7]]


def test_what_it_is_fed_can_be_x_0():
    pipeline = ours(parameterization="velocity")
    for name in ("DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"):
        ends = [
            pipeline.sample(
                2,
                steps=10,
                progress=False,
                sampler=DiffusersScheduler(scheduler=name, feed=feed),
            )
            for feed in ("epsilon", "sample")
        ]
        # The same prediction in two forms; epsilon in float32, divided by alpha_1 = 6e-3.
        assert torch.allclose(*ends, rtol=0, atol=2e-4 * max(1, ends[0].abs().max()))


def test_the_run_clips_and_diffusers_only_where_it_is_told_to():
    half = ours(range_=(-0.5, 0.5), sampler=DiffusersScheduler(scheduler="DDIMScheduler"))
    x = half.sample(2, steps=5, progress=False)
    assert float(x.abs().max()) == pytest.approx(0.5)
    assert float(half.sample(2, steps=5, clip=False, progress=False).abs().max()) > 0.6
    sampler = DiffusersScheduler(scheduler="DDIMScheduler")
    for data_range in (None, (-0.5, 0.5), (0.0, 1.0)):
        prepared = sampler.prepared(half.parts.process, data_range, (1.0, 0.5, 0.0))
        assert prepared.config.clip_sample is False
    ours(range_=(0.0, 1.0), sampler=sampler)


def test_clipping_by_diffusers_is_on_what_was_predicted():
    """Its DDIM keeps the epsilon of the unclipped x_0, which the run's clipping would have lost."""
    options = {"scheduler": "DDIMScheduler", "options": {"clip_sample": True}}
    pipeline = ours(range_=(-0.5, 0.5), sampler=DiffusersScheduler(**options))
    ends = [pipeline.sample(2, steps=5, clip=clip, progress=False) for clip in (True, False)]
    assert torch.equal(*ends)


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "HeunDiscreteScheduler"])
def test_clipping_that_is_asked_for_follows_the_data_too(name):
    choice = {"scheduler": name, "options": {"clip_sample": True}}
    sampler, process = DiffusersScheduler(**choice), VariancePreserving(schedule=Linear())
    times = (1.0, 0.5, 0.001, 0.0)
    if name == "DDIMScheduler":
        times = (1.0, 0.5, 0.0)
    config = sampler.prepared(process, (-0.5, 0.5), times).config
    assert (config.clip_sample, config.clip_sample_range) == (True, 0.5)
    with pytest.raises(ComponentError, match=rf"no range for {name} to clip to"):
        sampler.prepared(process, None, times)
    for data_range, message in (((0.0, 1.0), r"\[-r, r\] only"), (None, "no range for")):
        with pytest.raises(SpecError, match=message):
            ours(range_=data_range, sampler={"id": "diffusers.scheduler", "config": choice})
    choice = {"scheduler": name, "options": {"clip_sample": True, "clip_sample_range": 2.0}}
    for data_range in (None, (0.0, 1.0), (-0.5, 0.5)):
        config = DiffusersScheduler(**choice).prepared(process, data_range, times).config
        assert (config.clip_sample, config.clip_sample_range) == (True, 2.0)


def test_the_start_is_not_written_to():
    process = VariancePreserving(schedule=Linear())
    noise, x = SampleNoise(seed=0, indices=range(2)), torch.ones(2, 1)
    states = []
    for name in TRAITS:
        spacing = Leading() if name == "DDPMScheduler" else Trailing()
        times = spacing.times(5, process.schedule)
        exact = ExactGaussian(process, covariance=0.25)
        for state in DiffusersScheduler(scheduler=name).trajectory(exact, x, times, noise, {}):
            states.append((state, state.x.clone()))
    assert torch.equal(x, torch.ones(2, 1))
    assert all(torch.equal(state.x, before) for state, before in states)


def test_a_pipeline_starts_where_the_loop_starts():
    pipeline = ours()
    noise = SampleNoise(seed=3, indices=[0, 1])
    expected = pipeline.parts.process.prior((2, 1, 8, 8), noise)
    assert torch.equal(start(pipeline, 2, seed=3), expected)
