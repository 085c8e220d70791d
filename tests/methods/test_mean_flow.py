"""docs/examples/mean_flow.py"""

from __future__ import annotations

import torch

import diffkit

from .common import QUICK, Ring, host_of, report, sliced

SPEC = {
    "schedule": "rectified",
    "process": "rectified-flow",
    "parameterization": "flow",
    "model": {"id": "local.average_velocity", "config": {"width": 64}},
    "loss": "local.mean_flow",
    "sampler": "local.mean_flow_sampler",
    "data": {"shape": [2]},
}


def test_one_call_is_near_the_flow_of_a_hundred():
    """A step of the flow itself, one call too, is where the data's mean is: 3 times as far."""
    pipeline = diffkit.build(SPEC, host=host_of("mean_flow"))
    pipeline.train(Ring(), steps=600, **QUICK)
    flow = pipeline.sample(2000, sampler="samplers.euler", steps=100)
    in_one = sliced(pipeline.sample(2000, steps=1), flow)
    euler = sliced(pipeline.sample(2000, sampler="samplers.euler", steps=1), flow)
    report(
        "mean flow",
        f"sliced distance to the flow {in_one:.3f} in one call, {euler:.3f} by a step of Euler's",
    )
    assert in_one < 0.5 * euler


def test_the_target_is_the_average_velocity_where_that_is_known():
    """Of one point the flow is `v = (z - x_0) / t` along straight lines: u = v for every r, and a
    network that says so has a loss of zero, up to float32's rounding of a derivative.
    """
    from diffkit.testing import ExactGaussian

    host = host_of("mean_flow")
    loss = host.resolve("loss", "local.mean_flow")(apart=1.0, power=0.0)
    process = diffkit.build(SPEC, host=host).parts.process
    exact = ExactGaussian(process, mean=0.5, covariance=0.0)
    t = torch.linspace(0.3, 0.9, 16, dtype=torch.float64)
    context = diffkit.core.LossContext(
        denoiser=exact,
        process=process,
        noise=diffkit.core.SampleNoise(seed=0, indices=range(16), dtype=torch.float64),
        draw_times=lambda count: diffkit.core.DrawnTimes(t, torch.ones_like(t)),
        draw_uniform=lambda count: t.flip(0) / 2,
        step=0,
    )
    batch = diffkit.core.Batch(torch.full((16, 2), 0.5, dtype=torch.float64))
    assert float(loss(batch, context).values.abs().max()) < 1e-20
