"""What holds for the trajectories of all samplers here."""

from __future__ import annotations

import pytest
import torch

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.noise import SampleNoise
from diffkit.core.schedule import as_time
from diffkit.testing import ExactGaussian, ExactMixture, OracleModel
from diffkit_samplers.spacings import UniformLogSNR

from .samplers_problems import (
    CURVES,
    DETERMINISTIC,
    STOCHASTIC,
    TIGHT,
    ContinuousCosine,
    Counting,
    GivenNoise,
    LogLinear,
    ZeroTerminal,
    carried,
    end_of,
    even,
)

EVERY = {**DETERMINISTIC, **STOCHASTIC, "ode": TIGHT}
LINEAR = Linear()
TIMES = (1.0, 0.7, 0.5, 0.2, 0.0)
every_sampler = pytest.mark.parametrize("name", EVERY)


class OneStep(ZeroTerminal):
    """One step, from no signal at all."""

    steps, t_min = 1, 1.0


def mixture(process):
    return ExactMixture(process, [[-1.0, 0.0], [1.0, 0.5]], [0.1, 0.2])


def points():
    return torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def noise(indices=range(4), dtype=torch.float64):
    return SampleNoise(seed=0, indices=indices, dtype=dtype)


@every_sampler
@pytest.mark.parametrize("times", [TIMES, TIMES[:-1], (1.0, 0.0), (1.0, 0.4), (1.0, 0.4, 0.0)])
def test_calls_and_states(name, times):
    denoiser = Counting(mixture(VariancePreserving(schedule=LogLinear())))
    states = list(EVERY[name].trajectory(denoiser, points(), times, noise(), {}))
    assert [state.t for state in states] == list(times[1:])
    if EVERY[name].calls(times) is not None:
        assert len(denoiser.times) == EVERY[name].calls(times)
    lowest = denoiser.process.schedule.t_min if name == "ode" else min(t for t in times if t > 0)
    for t in denoiser.times:
        assert bool((as_time(t) >= lowest).all())


@every_sampler
def test_the_last_step_is_of_first_order(name):
    denoiser = mixture(VariancePreserving(schedule=LogLinear()))
    *_, end = EVERY[name].trajectory(denoiser, points(), TIMES, noise(), {})
    assert torch.equal(end.x, end.prediction.x_0)


@every_sampler
def test_every_process_is_sampled_alike(name):
    ends = []
    for curve in CURVES:
        process = curve(schedule=LogLinear())

        def size(t, process=process):
            return torch.hypot(*process.scales(process.log_snr(t)))

        x = points() * size(1.0)
        end = end_of(EVERY[name], mixture(process), x, (1.0, 0.8, 0.5, 0.3, 0.1), noise())
        ends.append(end / size(0.1))
    # Four steps of other arithmetic; the adaptive solver may round to other steps.
    for end in ends[1:]:
        assert torch.allclose(end, ends[0], rtol=0, atol=1e-7 if name == "ode" else 1e-11)


@every_sampler
def test_every_parameterization_is_sampled_alike(name):
    process = VariancePreserving(schedule=LINEAR)
    exact, ends = mixture(process), []
    for parameterization in (X0(), Epsilon(), Velocity()):
        model = OracleModel(denoiser=exact, parameterization=parameterization)
        denoiser = GaussianDenoiser(model, parameterization, process)
        ends.append(end_of(EVERY[name], denoiser, points(), TIMES, noise()))
    # Off the grid, which churn and the adaptive solver visit, networks are told times in float32.
    near = 1e-3 if name == "ode" or "churn" in name else 1e-9
    for end in ends:
        assert torch.allclose(end, ends[0], rtol=0, atol=near)


@every_sampler
def test_a_sample_does_not_depend_on_its_batch(name):
    denoiser = mixture(VariancePreserving(schedule=LogLinear()))
    times = even(LogLinear(), 8)
    together = end_of(EVERY[name], denoiser, points(), times, noise())
    for i in range(4):
        alone = end_of(EVERY[name], denoiser, points()[i : i + 1], times, noise([i]))
        # The kernels may sum in another order.
        assert torch.allclose(alone[0], together[i], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [*DETERMINISTIC, "ode"])
def test_deterministic_samplers_draw_nothing(name):
    source = GivenNoise()
    end_of(EVERY[name], mixture(VariancePreserving(schedule=LINEAR)), points(), TIMES, source)
    assert source.draws == 0


@pytest.mark.parametrize("name", STOCHASTIC)
def test_no_noise_at_the_data(name):
    source = GivenNoise(points())
    denoiser = mixture(VariancePreserving(schedule=LogLinear()))
    end_of(STOCHASTIC[name], denoiser, points(), TIMES, source)
    # Churn is for the noise level that a step starts from, but t = 1 is the noisiest already.
    assert source.draws == 3


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_samples_keep_their_dtype_and_inputs_are_not_written(name, dtype):
    denoiser = mixture(VariancePreserving(schedule=LINEAR))
    x = points().to(dtype)
    kept, seen = x.clone(), []
    sampler = type(TIGHT)() if name == "ode" else EVERY[name]
    for state in sampler.trajectory(denoiser, x, TIMES, noise(dtype=dtype), {}):
        assert state.x.dtype == dtype
        assert state.prediction is None or state.prediction.x_0.dtype == dtype
        seen.append((state, state.x.clone()))
    assert torch.equal(x, kept)
    assert all(torch.equal(state.x, copy) for state, copy in seen)


@every_sampler
@pytest.mark.parametrize("schedule", [ContinuousCosine(), ZeroTerminal()])
def test_trajectories_from_no_signal_at_all(name, schedule):
    process = VariancePreserving(schedule=schedule)
    denoiser = Counting(ExactGaussian(process, 0.7, 0.25))
    x = torch.tensor([[-1.3], [0.4], [2.0], [0.0]], dtype=torch.float64)
    times = UniformLogSNR().times(30, schedule)
    states = list(EVERY[name].trajectory(denoiser, x, times, noise(), {}))
    assert len(states) == 30
    assert all(bool(torch.isfinite(state.x).all()) for state in states)
    if name in DETERMINISTIC:
        assert len(denoiser.times) == EVERY[name].calls(times)
    if name in DETERMINISTIC and name != "heun":
        by_ddim = end_of(DETERMINISTIC["ddim"], denoiser, x, times[:2])
        assert torch.allclose(states[0].x, by_ddim, rtol=0, atol=0.1 if "True" in name else 1e-14)
    if name in STOCHASTIC:
        return
    known = carried(process, x, 1.0, times[-2], 0.7, 0.25)
    # Thirty steps in some twenty of log-SNR, the first of them long.
    near = {1: 0.2, 2: 0.06, 3: 0.03, None: 1e-5}[EVERY[name].order]
    assert (states[-2].x - known).abs().max() < near


def test_the_adaptive_solver_may_stop_before_it_begins():
    denoiser = Counting(mixture(VariancePreserving(schedule=ContinuousCosine())))
    times = (1.0, 1 - 1e-12)
    end = end_of(TIGHT, denoiser, points(), times)
    assert denoiser.times == [1.0]
    # A step of 1e-12.
    assert torch.allclose(end, points(), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("schedule", "times"),
    [
        (LINEAR, (0.001, 0.0)),
        (LogLinear(), (LogLinear.t_min, 0.0)),
        (LogLinear(), (0.0005, 0.0)),
        (Linear(steps=1, rescale=False), (1.0, 0.0)),
        (OneStep(), (1.0, 0.0)),
    ],
    ids=["linear", "at t_min", "below t_min", "T = 1", "T = 1 without signal"],
)
@every_sampler
def test_trajectories_from_the_smallest_time_on(name, schedule, times):
    denoiser = Counting(mixture(VariancePreserving(schedule=schedule)))
    states = list(EVERY[name].trajectory(denoiser, points(), times, noise(), {}))
    assert [state.t for state in states] == [0.0]
    if "churn" in name:  # It goes up before that step.
        return
    # One step, and that of first order.
    assert torch.equal(states[0].x, denoiser.inner(points(), times[0]).x_0)
    assert set(denoiser.times) == {times[0]}


@pytest.mark.parametrize("steps", [1, 2, 3])
@every_sampler
def test_short_trajectories_from_no_signal_at_all(name, steps):
    process = VariancePreserving(schedule=ZeroTerminal())
    denoiser = Counting(ExactGaussian(process, 0.7, 0.25))
    times = Trailing().times(steps, ZeroTerminal())
    end = end_of(EVERY[name], denoiser, points(), times, noise())
    assert bool(torch.isfinite(end).all())
    if EVERY[name].calls(times) is not None:
        assert len(denoiser.times) == EVERY[name].calls(times)
