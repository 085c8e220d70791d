"""What is refused, what is offered, and what it says."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch

import diffkit
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.core.clipping import ClippedDenoiser
from diffkit.core.component import arguments_of
from diffkit.core.denoiser import Denoiser
from diffkit.core.prediction import Prediction
from diffkit.core.process import ForwardProcess
from diffkit.errors import ComponentError
from diffkit.testing import ExactGaussian
from diffkit_samplers.ddim import DDIM
from diffkit_samplers.dpmpp_2m import DPMpp2M
from diffkit_samplers.dpmpp_2m_sde import DPMpp2MSDE
from diffkit_samplers.dpmpp_3m import DPMpp3M
from diffkit_samplers.euler import Euler
from diffkit_samplers.heun import Heun
from diffkit_samplers.ode import ODE
from diffkit_samplers.plms import PLMS
from diffkit_samplers.unipc import UniPC

from .samplers_problems import (
    DETERMINISTIC,
    STOCHASTIC,
    Counting,
    GivenNoise,
    LogLinear,
    end_of,
)

NAMES = [
    "ddim",
    "euler",
    "heun",
    "euler-ancestral",
    "dpmpp-2m",
    "dpmpp-3m",
    "dpmpp-2m-sde",
    "unipc",
    "plms",
    "ode",
]
X = torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
TIMES = (1.0, 0.6, 0.3, 0.0)
EVERY = {**DETERMINISTIC, **STOCHASTIC}


def exact():
    return ExactGaussian(VariancePreserving(schedule=LogLinear()), 0.0, 4.0)


def problems(sampler, facts):
    config = SimpleNamespace(**arguments_of(sampler))
    return list(type(sampler).requires(config, facts))


@pytest.mark.parametrize("name", [*EVERY, "ode"])
def test_what_the_run_clips_is_sampled_with_and_a_range_alone_changes_nothing(name):
    sampler = ODE() if name == "ode" else EVERY[name]
    x = torch.tensor([[-5.0], [9.0]], dtype=torch.float64)

    def sampled(denoiser):
        noise = GivenNoise(torch.zeros_like(x))
        return list(sampler.trajectory(denoiser, x, TIMES, noise, {}))

    free, declared = sampled(exact()), sampled(Counting(exact(), (-0.5, 0.5)))
    assert free[-1].x.abs().max() > 1.0
    assert torch.equal(declared[-1].x, free[-1].x)
    clipped = sampled(ClippedDenoiser(exact(), (-0.5, 0.5)))
    assert torch.equal(clipped[-1].x, torch.tensor([[-0.5], [0.5]]).double())
    predicted = [state.prediction for state in clipped if state.prediction is not None]
    assert all(prediction.x_0.abs().max() <= 0.5 for prediction in predicted)


def test_the_ode_is_that_of_predictions_as_they_are():
    """But for the step to s = 0, clipping leaves the flow alone, which has to be invertible."""
    x = torch.tensor([[-5.0], [9.0]], dtype=torch.float64)
    free, clipped = (
        list(ODE().trajectory(denoiser, x, TIMES, GivenNoise(), {}))
        for denoiser in (exact(), ClippedDenoiser(exact(), (-0.5, 0.5)))
    )
    assert free[-2].t == clipped[-2].t == 0.3
    assert torch.equal(free[-2].x, clipped[-2].x)


@pytest.mark.parametrize("sampler", [Euler(churn=1.0), Heun(churn=1.0), ODE()])
def test_models_of_a_grid_are_refused_where_others_times_are_asked(sampler):
    (problem,) = problems(sampler, {"model.steps": 1000})
    assert "multiples of 1/1000" in problem
    assert "samplers.dpmpp-2m" in problem
    assert not problems(sampler, {})


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_models_of_a_grid_are_welcome_elsewhere(name):
    assert not problems(DETERMINISTIC[name], {"model.steps": 1000})
    denoiser = Counting(exact())
    end_of(DETERMINISTIC[name], denoiser, X, TIMES)
    assert set(denoiser.times) <= set(TIMES)


@pytest.mark.parametrize("sampler", [Euler(churn=50.0), Heun(churn=50.0)])
def test_churn_stays_within_the_schedule_and_its_bounds(sampler):
    denoiser = Counting(exact())
    steps = 40
    times = (*(1 - i / steps for i in range(steps)), 0.0)
    noise = GivenNoise(torch.ones(1, 1, dtype=torch.float64))
    end_of(sampler, denoiser, X, times, noise)
    assert max(denoiser.times) == 1.0
    assert noise.draws == steps - 1
    none = GivenNoise()
    end_of(type(sampler)(churn=50.0, churn_min=1e9), exact(), X, times, none)
    end_of(type(sampler)(churn=50.0, churn_max=1e-9), exact(), X, times, none)
    assert none.draws == 0
    some = GivenNoise(torch.ones(1, 1, dtype=torch.float64))
    end_of(type(sampler)(churn=50.0, churn_min=0.1, churn_max=1.0), exact(), X, times, some)
    log_snr = LogLinear().log_snr(torch.tensor(times[:-1], dtype=torch.float64))
    levels = torch.exp(-log_snr / 2)
    assert some.draws == int(((levels >= 0.1) & (levels <= 1.0)).sum())
    with pytest.raises(ComponentError, match="below churn_min"):
        type(sampler)(churn=1.0, churn_min=2.0, churn_max=1.0)


class NotGaussian(ForwardProcess):
    schedule = LogLinear()
    diffuse = prior = interpret = reverse = None


class Stub(Denoiser):
    def __init__(self, process, prediction=None):
        self._process, self._prediction = process, prediction

    @property
    def process(self):
        return self._process

    def __call__(self, x_t, t, *, given=None, times=None):
        return self._prediction


class Other(Prediction):
    x_0 = torch.zeros(1)


@pytest.mark.parametrize("sampler", [DDIM(), DPMpp2M(), ODE()])
def test_what_is_not_gaussian(sampler):
    with pytest.raises(ComponentError, match="NotGaussian is not one"):
        end_of(sampler, Stub(NotGaussian()), X, TIMES)
    with pytest.raises(ComponentError, match="no Gaussian prediction"):
        end_of(sampler, Stub(exact().process, Other()), X, TIMES)


class PerCoordinate(VariancePreserving):
    """Another log-SNR for each of two coordinates, as when blurring."""

    def log_snr(self, t):
        return super().log_snr(t) + torch.tensor([[0.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize("sampler", [DPMpp3M(), UniPC(), ODE(), Euler(churn=1.0), Heun(churn=1.0)])
def test_one_noise_level_is_needed_by_some(sampler):
    denoiser = _Constant(PerCoordinate(schedule=LogLinear()))
    with pytest.raises(ComponentError, match="one noise level for all coordinates"):
        end_of(sampler, denoiser, torch.zeros(2, 2).double(), TIMES)


@pytest.mark.parametrize(
    "sampler", [DDIM(), DPMpp2M(), Heun(), Euler(), PLMS(), DPMpp2MSDE(eta=0.0)]
)
def test_a_noise_level_for_each_coordinate_is_taken_by_others(sampler):
    denoiser = _Constant(PerCoordinate(schedule=LogLinear()))
    end = end_of(sampler, denoiser, torch.ones(2, 2).double(), TIMES)
    assert torch.equal(end, torch.full((2, 2), 0.25).double())


class _Constant(Denoiser):
    def __init__(self, process):
        self._process = process

    @property
    def process(self):
        return self._process

    def __call__(self, x_t, t, *, given=None, times=None):
        scales = self._process.scales(self._process.log_snr(t))
        return self._process.interpret((x_t - scales.alpha * 0.25) / scales.sigma, x_t, t).clipped(
            0.25, 0.25
        )


def test_the_solver_is_an_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torchode" else find(name)
    )
    (problem,) = problems(ODE(), {})
    assert "pip install 'diffkit-samplers[ode]'" in problem

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ComponentError, match=r"samplers.ode: .*diffkit-samplers\[ode\]"):
        end_of(ODE(), exact(), X, TIMES)


def test_the_solver_gives_up():
    with pytest.raises(ComponentError, match="1000 steps did not reach the end"):
        end_of(ODE(rtol=1e-18, atol=1e-18), exact(), X, TIMES)

    class Broken(ExactGaussian):
        def __call__(self, x_t, t, *, given=None, times=None):
            return super().__call__(x_t * torch.nan, t)

    with pytest.raises(ComponentError, match="not a finite number"):
        end_of(ODE(), Broken(exact().process), X, TIMES)


def test_states_in_between_cost_the_solver_no_calls():
    few, many = Counting(exact()), Counting(exact())
    ends = []
    for denoiser, times in ((few, (1.0, 0.0)), (many, (*(1 - i / 50 for i in range(50)), 0.0))):
        states = list(ODE().trajectory(denoiser, X, times, GivenNoise(), {}))
        ends.append(states[-1].x)
        assert [state.t for state in states] == list(times[1:])
    # The second ends its integration at a later time, t = 0.001 for both.
    assert len(few.times) == len(many.times)
    assert torch.allclose(*ends, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spacing", ["karras", "quadratic", "uniform-log-snr"])
def test_they_are_found_by_name(name, spacing):
    spec = {
        "schedule": "linear",
        "process": "variance-preserving",
        "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
        "loss": "simple",
        "sampler": f"samplers.{name}",
        "spacing": f"samplers.{spacing}",
        "data": {"shape": [2], "range": None},
    }
    samples = diffkit.build(spec).sample(2, steps=3)
    assert samples.shape == (2, 2)
    assert bool(torch.isfinite(samples).all())


def test_ode_is_refused_before_it_asks_below_the_trained_levels(monkeypatch):
    """It asks at the schedule's smallest time, of which the times of a trajectory need not be
    one.
    """
    spec = {
        "schedule": {"id": "karras", "config": {"sigma_min": 0.02}},
        "process": "variance-preserving",
        "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
        "loss": "simple",
        "sampler": "samplers.ode",
        "dataset": "digits",
    }
    pipeline = diffkit.build(spec, device="cpu")
    finer = {"id": "karras", "config": {"sigma_min": 0.002}}
    asked = []
    trajectory = ODE.trajectory
    monkeypatch.setattr(ODE, "trajectory", lambda *given: asked.append(1) or trajectory(*given))
    with pytest.raises(ComponentError, match=r"t = 0\.0001 has a noise level that the network was"):
        pipeline.sample(2, steps=4, schedule=finer)
    assert not asked
    # What asks at these times only may: none of them is below the trained levels.
    found = pipeline.sample(2, steps=4, schedule=finer, sampler="samplers.ddim")
    assert found.shape == (2, 1, 8, 8)
