"""docs/examples/self_conditioning.py"""

from __future__ import annotations

import torch

import diffkit

from .common import QUICK, Ring, host_of, report, sliced

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "parameterization": "x_0",
    "model": "local.told_mlp",
    "loss": "local.self_conditioned_loss",
    "sampler": "samplers.ddim",
    "guidance": "local.self_conditioning",
    "data": {"shape": [2], "range": [-2, 2]},
}


def test_what_is_told_is_the_estimate_before_and_does_no_harm():
    pipeline = diffkit.build(SPEC, host=host_of("self_conditioning"))
    asked = []
    network = pipeline.parts.model
    network.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[2].get("x_0")))
    states = list(pipeline.trajectory(4, steps=5))
    assert asked[0] is None
    for told, state in zip(asked[1:], states[1:], strict=False):
        assert torch.equal(told, state.prediction.unclipped.x_0)
    first = len(asked)
    list(pipeline.trajectory(4, steps=5))
    assert asked[first] is None  # each trajectory begins anew

    pipeline.train(Ring(), steps=400, **QUICK)
    x_0 = Ring().x[:2000]
    process = pipeline.parts.process
    denoiser, t = pipeline.denoiser(), 0.5
    noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    x_t = process.diffuse(x_0, t, noise)
    without = denoiser(x_t, t).x_0
    told = denoiser(x_t, t, given={"x_0": without}).x_0
    errors = [float((said - x_0).square().mean()) for said in (without, told)]
    assert errors[1] < errors[0] * 1.05
    distance = sliced(pipeline.sample(2000, steps=20), x_0)
    report(
        "self-conditioning",
        f"squared error of x_0 at t = 0.5 {errors[1]:.4f} when told, {errors[0]:.4f} without; "
        f"sliced distance of samples to data {distance:.3f}",
    )
    assert distance < 0.2
