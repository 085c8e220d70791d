"""What is planned before the first call of the network."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.assembly.conditions import SampleConditions
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.process import Level
from diffkit.errors import SpecError
from diffkit.sampling.plan import plan_sampling

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2], "range": [-1.0, 1.0]},
    "steps": 5,
}


@pytest.fixture
def plan():
    pipeline = diffkit.build(SPEC, device="cpu")

    def planned(**choices):
        system = pipeline.system
        return plan_sampling(
            pipeline._assembly, pipeline.host, system, 3, choices, system.parts.model
        )

    return planned


def test_times_are_levels_with_their_coefficients(plan) -> None:
    run = plan()
    assert len(run.times) == 6
    assert all(isinstance(level, Level) for level in run.times)
    assert list(run.times) == [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    for level in run.times[:-1]:
        scales = run.process.scales(run.process.log_snr(torch.tensor(level, dtype=torch.float64)))
        assert level.alpha == pytest.approx(float(scales.alpha), rel=1e-12)
        assert level.sigma == pytest.approx(float(scales.sigma), rel=1e-12)


def test_the_choice_of_steps_goes_before_the_specs(plan) -> None:
    assert len(plan(steps=7).times) == 8


def test_another_schedule_is_in_the_process_too(plan) -> None:
    run = plan(schedule={"id": "linear", "config": {"steps": 1000}})
    assert isinstance(run.process.schedule, Linear)


def test_the_denoiser_is_clipped_as_the_spec_says_or_as_one_chooses(plan) -> None:
    """A network of random weights predicts far beyond the range at the smallest times."""
    x = 10 * torch.ones(3, 2)
    for clip, within in ((None, True), (True, True), (False, False)):
        run = plan() if clip is None else plan(clip=clip)
        with torch.no_grad():
            x_0 = run.denoiser(SampleConditions({}, {}), {})(x, run.times[-2]).x_0
        assert bool((x_0.abs() <= 1).all()) is within


def test_what_cannot_be_is_refused_with_every_reason(plan) -> None:
    with pytest.raises(SpecError) as caught:
        plan(sampler="nobody", schedule={"id": "linear", "config": {"steps": -1}})
    assert len(caught.value.problems) == 2
