"""Each method against the exact conditional distribution of Gaussian data, and its known bias."""

from __future__ import annotations

import pytest
import torch

from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.karras import Karras
from diffkit_inverse.dps import DPSInpaint, DPSSuperResolution
from diffkit_inverse.repaint import RePaint
from diffkit_inverse.replacement import Replacement

from . import inverse_problems as problems

PROCESSES = (VariancePreserving, RectifiedFlow, VarianceExploding)


def of_painted(sampler, steps, process_class=VariancePreserving):
    schedule = Karras() if process_class is VarianceExploding else None
    exact = problems.denoiser(process_class, schedule)
    found = problems.exact_moments(sampler, exact, steps, problems.PAINTING)
    return problems.of_unknown(found).apart(problems.painted())


@pytest.mark.parametrize("process_class", PROCESSES)
def test_replacement_is_biased_and_more_steps_do_not_help(process_class):
    coarse, fine = (of_painted(Replacement(), steps, process_class) for steps in (50, 200))
    assert 0.1 < fine[0] < 0.5
    assert abs(fine[0] - coarse[0]) < 0.25 * fine[0]


@pytest.mark.parametrize("process_class", PROCESSES)
def test_repaint_is_an_order_of_magnitude_less_biased(process_class):
    mean, covariance = of_painted(RePaint(jump_length=1, resamplings=5), 100, process_class)
    assert mean < 0.1 * of_painted(Replacement(), 100, process_class)[0]
    assert covariance < 0.15


def test_repaints_covariance_converges_in_steps():
    errors = [of_painted(RePaint(jump_length=1, resamplings=5), steps)[1] for steps in (50, 100)]
    assert errors[1] < 0.6 * errors[0]


def test_moments_by_probing_are_those_of_samples():
    count, exact, sampler = 4000, problems.denoiser(), RePaint(jump_length=3, resamplings=2)
    ends = problems.drawn(sampler, exact, 12, problems.PAINTING, count)
    probed = problems.of_unknown(problems.exact_moments(sampler, exact, 12, problems.PAINTING))
    found = problems.of_unknown(problems.sample_moments(ends))
    deviations = probed.covariance.diag().sqrt()
    assert ((found.mean - probed.mean).abs() < 4.5 * deviations / count**0.5).all()
    # Of Gaussian data the sample covariance has a variance of at most 2 v_i v_j / n.
    limit = 4.5 * (2.0 / count) ** 0.5 * deviations[:, None] * deviations
    assert ((found.covariance - probed.covariance).abs() < limit).all()


def test_dps_leaves_almost_nothing_between_it_and_the_measurement():
    inputs = {"measurement": problems.SMALL}
    ends = problems.drawn(
        DPSSuperResolution(factor=2, zeta=0.3), problems.denoiser(), 100, inputs, 500
    )
    # Near the end a step is 2 zeta |A| long, with |A| = 1/2 of this mean of four: the trajectory
    # steps to and fro across the measurement, and misses it by up to 2 zeta |A|^2.
    assert (ends.mean(1) - problems.SMALL.flatten()).abs().max() < 2 * 0.3 * 0.25
    error, _ = problems.sample_moments(ends).apart(problems.enlarged())
    assert error < 0.1 + 4.5 / 500**0.5


def test_dps_is_biased_by_its_step_size():
    exact, count = problems.denoiser(), 1500
    errors = []
    for zeta in (0.1, 1.0):
        ends = problems.drawn(DPSInpaint(zeta=zeta), exact, 100, problems.PAINTING, count)
        found = problems.of_unknown(problems.sample_moments(ends))
        errors.append(found.apart(problems.painted())[0])
    # Chance: the mean of so many is within 4.5 standard errors.
    assert all(error < 0.2 + 4.5 / count**0.5 for error in errors)
    unconditional = problems.Moments(problems.MEAN, problems.COVARIANCE)
    without = problems.of_unknown(unconditional).apart(problems.painted())[0]
    assert all(error < 0.5 * without for error in errors)


def test_the_posterior_of_all_that_is_seen_is_what_was_seen():
    every = torch.eye(4, dtype=torch.float64)
    seen = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    found = problems.conditional(every, seen)
    assert torch.allclose(found.mean, seen)
    assert found.covariance.abs().max() < 1e-12
