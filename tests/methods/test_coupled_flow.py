"""Paths of a flow that was trained on optimal pairs are straight: one step goes as far as many."""

from __future__ import annotations

import pytest

import diffkit

from .common import EXAMPLES, report

pytestmark = pytest.mark.slow

PLUGIN = EXAMPLES / "coupled_flow.py"


def bend(coupled):
    """The root mean square distance between the ends of one step and of forty, on one noise."""
    spec = {
        "dataset": {"id": "local.ring", "config": {"coupled": coupled}},
        "schedule": "rectified",
        "process": "local.coupled_flow",
        "parameterization": "flow",
        "model": {"id": "mlp", "config": {"width": 64, "depth": 3}},
        "loss": "simple",
        "sampler": "local.euler",
        "training": {"batch_size": 256, "learning_rate": 2e-3, "warmup_steps": 20},
    }
    host = diffkit.Host(plugin_files=[PLUGIN])
    pipeline = diffkit.build(spec, host=host)
    pipeline.train(steps=350, ema_decay=0.99, progress=False)
    few, many = (pipeline.sample(512, steps=n, seed=3, progress=False) for n in (1, 40))
    radius = many.norm(dim=1)
    # The ring has the radius 2, and is 0.1 thick.
    assert 1.8 < float(radius.mean()) < 2.2
    return float((few - many).square().sum(1).mean().sqrt())


def test_a_coupled_flow_is_straighter():
    pytest.importorskip("scipy")
    coupled, independent = bend(True), bend(False)
    report(
        "coupled flow",
        f"one step ends {coupled:.3f} from forty on optimal pairs, {independent:.3f} on "
        "independent ones",
    )
    assert coupled < 0.4 * independent
