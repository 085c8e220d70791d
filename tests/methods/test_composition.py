"""docs/examples/composition.py"""

from __future__ import annotations

import pytest
import torch

import diffkit

from .common import QUICK, Ring, host_of, report
from .test_cfg_plus_plus import SPEC, Net


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    model = diffkit.wrap(Net(), conditions=["label"], null={"label": 8})
    spec = {**SPEC, "sampler": "samplers.ddim", "guidance": "local.composition", "model": model}
    pipeline = diffkit.build(spec, host=host_of("composition"))
    return pipeline.train(Ring(labelled=True), steps=600, **QUICK)


def test_both_conditions_lead_with_their_weights(pipeline):
    """`null + w_1 (a - null) + w_2 (b - null)`, to float32's rounding of a joint batch's sums."""
    x = torch.randn(16, 2)
    weights = {"id": "local.composition", "config": {"weights": [2.0, 0.5]}}
    told = {"label": 2, "other_label": 3}
    found = pipeline.denoiser(condition=told, guidance=weights)(x, 0.5).output
    a, b, null = (pipeline.denoiser(condition={"label": c})(x, 0.5).output for c in (2, 3, 8))
    wanted = null + 2.0 * (a - null) + 0.5 * (b - null)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_samples_of_two_neighbours_are_between_them(pipeline):
    x = pipeline.sample(500, steps=20, condition={"label": 2, "other_label": 3})
    angle = torch.atan2(x[:, 1], x[:, 0]) / (torch.pi / 4)
    report("composition", f"samples of the classes 2 and 3 are at {float(angle.mean()):.2f}")
    assert 2.2 < float(angle.mean()) < 2.8


def test_what_is_taken_is_named(pipeline):
    with pytest.raises(diffkit.SpecError, match="label, other_label"):
        pipeline.sample(1, condition={"label": 2})
