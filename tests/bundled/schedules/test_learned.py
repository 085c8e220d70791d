"""The learned schedule: its ends, its inverse, and what trains it."""

from __future__ import annotations

import math

import pytest
import torch

import diffkit
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.learned import Learned
from diffkit.core.bound import Bound
from diffkit.errors import ComponentError

SPEC = {
    "schedule": {"id": "learned", "config": {"hidden": 16}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 32, "depth": 1}},
    "loss": {"id": "elbo", "config": {"steps": 100}},
    "sampler": "ddpm",
    "steps": 20,
    "dataset": "digits",
    "training": {"batch_size": 32, "warmup_steps": 1, "learning_rate": 3e-3, "ema_decay": 0.9},
}


def moved(seed: int, size: float) -> Learned:
    schedule = Learned(hidden=16)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return schedule


def test_it_begins_at_its_ends_and_almost_linear() -> None:
    schedule = Learned(highest=10.0, lowest=-6.0)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)[1:]
    found = schedule.log_snr(t).detach()
    assert float(found[-1]) == pytest.approx(-6.0, abs=1e-6)
    assert float((found - (10.0 - 16.0 * t)).abs().max()) < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_wherever_training_leads_it_is_a_schedule(seed) -> None:
    schedule = moved(seed, 1.0)
    t = torch.linspace(1e-3, 1, 500, dtype=torch.float64)
    log_snr = schedule.log_snr(t).detach()
    assert bool((log_snr.diff() < 0).all())
    # Rounding of log-SNRs is 1e-16 of their size, and in t that by the slope.
    slope = float((log_snr.diff() / t.diff()).abs().min())
    apart = float((schedule.time_at(log_snr) - t).abs().max())
    assert apart < 1e-15 + 1e-14 * float(log_snr.abs().max()) / slope


def test_the_prior_term_pulls_the_last_noise_up() -> None:
    # Of x = 1 it is (alpha^2 + sigma^2 - 1 - log sigma^2)/2 = -log(sigma^2)/2, which grows by
    # alpha^2/2 for each unit of the log-SNR at t = 1.
    schedule = Learned(lowest=-3.0)
    bound = Bound(VariancePreserving(schedule=schedule), 10, None, None)
    prior = bound.prior(torch.ones(1, 1, dtype=torch.float64)).sum()
    torch.autograd.backward(prior)
    nats = 0.5 / (1.0 + math.exp(3.0))
    assert schedule.lowest.grad is not None
    assert float(schedule.lowest.grad) == pytest.approx(nats / math.log(2.0), rel=1e-6)


@pytest.mark.parametrize("curve", [VariancePreserving, VarianceExploding, RectifiedFlow])
def test_the_prior_term_has_one_gradient_on_every_curve(curve) -> None:
    """The divergence at t = 1 depends on the log-SNR there alone, so its slope is one too."""
    schedule = Learned(lowest=-3.0)
    bound = Bound(curve(schedule=schedule), 10, None, None)
    x_0, step = torch.full((1, 1), 0.7, dtype=torch.float64), 1e-3
    torch.autograd.backward(bound.prior(x_0).sum())
    values = []
    for change in (step, -2.0 * step):
        with torch.no_grad():
            schedule.lowest.add_(change)
        values.append(float(bound.prior(x_0).sum().detach()))
    # Differences are good to the square of the step, and parameters are float32.
    wanted = (values[0] - values[1]) / (2.0 * step)
    assert wanted > 1e-3
    assert float(schedule.lowest.grad) == pytest.approx(wanted, rel=1e-3)


def test_gradients_of_the_bound_are_those_of_differences() -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    process, schedule = pipeline.parts.process, pipeline.parts.schedule
    x_0 = pipeline.dataset().batch(range(8)).x_0.double()
    pipeline.system.double()
    bound = Bound(process, 100, 256, (-1.0, 1.0))
    epsilon = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0)).double()
    t = torch.linspace(0.1, 0.8, 8, dtype=torch.float64)

    def value() -> torch.Tensor:
        denoiser = pipeline.system.denoiser()
        return bound.term(x_0, denoiser(process.diffuse(x_0, t, epsilon), t), t).sum()

    torch.autograd.backward(value())
    step = 1e-5
    for parameter in (schedule.lowest, schedule.span, schedule.slope):
        values = []
        for change in (step, -2 * step):
            with torch.no_grad():
                parameter.add_(change)
                values.append(float(value()))
        with torch.no_grad():
            parameter.add_(step)
        # Differences are good to 1e-16 of the value by the step, and to the step's square.
        wanted = (values[0] - values[1]) / (2 * step)
        assert float(parameter.grad) == pytest.approx(wanted, rel=1e-5, abs=1e-7)


def test_it_trains_with_the_network_and_is_saved_with_it(tmp_path) -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    t = torch.linspace(0.1, 1.0, 10, dtype=torch.float64)
    before = pipeline.parts.schedule.log_snr(t).detach()
    pipeline.train(steps=30, out=tmp_path / "run", progress=False)
    after = pipeline.parts.schedule.log_snr(t).detach()
    assert float((after - before).abs().max()) > 0.01
    again = diffkit.load(tmp_path / "run")
    assert torch.equal(again.parts.schedule.log_snr(t), pipeline.parts.schedule.log_snr(t))
    one = pipeline.sample(2, progress=False)
    assert torch.equal(again.sample(2, progress=False), one)
    assert bool(one.isfinite().all())


def test_another_process_samples_with_the_average_of_the_schedule() -> None:
    """Not its latest weights, which the average's network never saw."""
    pipeline = diffkit.build(SPEC, device="cpu").train(steps=3, progress=False)
    choices = ({"process": "variance-exploding"}, {"process": "rectified-flow"}, {"steps": 3})
    before = [pipeline.sample(2, **choice, progress=False) for choice in choices]
    with torch.no_grad():
        pipeline.parts.schedule.lowest.sub_(0.5)
    for choice, wanted in zip(choices, before, strict=True):
        assert torch.equal(pipeline.sample(2, **choice, progress=False), wanted)


def test_ends_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ComponentError, match="must be above lowest"):
        Learned(highest=-5.0, lowest=13.0)


def test_what_it_never_reaches_is_refused_with_its_range() -> None:
    with pytest.raises(ComponentError, match=r"outside \[-5, 13\.3\]"):
        Learned().time_at(torch.tensor([-6.0], dtype=torch.float64))
