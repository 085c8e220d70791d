"""docs/examples/consistency.py"""

from __future__ import annotations

import pytest

import diffkit

from .common import QUICK, Ring, host_of, report, sliced

pytestmark = pytest.mark.slow

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "parameterization": "edm",
    "model": {"id": "mlp", "config": {"width": 64, "depth": 3}},
    "loss": "local.consistency_training",
    "sampler": "local.consistency_sampler",
    "data": {"shape": [2]},
}


def test_one_call_and_two_are_near_the_data():
    """One call of a network that was trained to denoise is at the mean of the data."""
    host = host_of("consistency")
    pipeline = diffkit.build(SPEC, host=host)
    plain = diffkit.build({**SPEC, "loss": "simple"}, host=host)
    for each in (pipeline, plain):
        each.train(Ring(), steps=600, **QUICK)
    data = Ring().x[:2000]
    distances = [sliced(pipeline.sample(2000, steps=steps), data) for steps in (1, 2)]
    denoised = sliced(plain.sample(2000, steps=1), data)
    one, two = distances
    report(
        "consistency training",
        f"sliced distance to data {one:.3f} in one call, {two:.3f} in two, {denoised:.3f} of a "
        "denoiser's one",
    )
    assert max(distances) < 0.5 * denoised


def test_the_target_is_the_average_and_takes_no_gradient():
    pipeline = diffkit.build(SPEC, host=host_of("consistency"))
    seen = []
    loss = type(pipeline.parts.loss)
    original = loss.__call__

    def watched(self, batch, context):
        seen.append((context.average, context.steps))
        return original(self, batch, context)

    loss.__call__ = watched
    try:
        pipeline.train(Ring(), **{**QUICK, "steps": 3})
    finally:
        loss.__call__ = original
    assert all(average is not None for average, _ in seen)
    assert {steps for _, steps in seen} == {3}
