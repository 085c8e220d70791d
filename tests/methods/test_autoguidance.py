"""Autoguidance inside an interval: the plugin `guidance.auto`. Karras et al. (2024), section 4;
Kynkäänniemi et al. (2024), section 3.
"""

from __future__ import annotations

import torch

import diffkit
from diffkit.core import Run

from .common import QUICK, Ring, report

LOW, HIGH = -2.0, 4.0
SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "parameterization": "velocity",
    "model": {"id": "mlp", "config": {"width": 64, "depth": 3}},
    "loss": "simple",
    "sampler": "samplers.ddim",
    "data": {"shape": [2]},
}


def stray(points):
    """The share that is farther than three deviations from each of the ring's eight centres: 1.1%
    of the data.
    """
    angle = torch.arange(8) * torch.pi / 4
    centres = torch.stack([angle.cos(), angle.sin()], dim=1)
    return float((torch.cdist(points, centres).amin(1) > 0.3).float().mean())


def test_fewer_samples_stray_and_the_worse_network_is_asked_inside_the_interval_alone(tmp_path):
    good, worse = diffkit.build(SPEC), diffkit.build(SPEC)
    for pipeline, steps in ((good, 300), (worse, 50)):
        pipeline.train(Ring(), steps=steps, **QUICK)
    run = Run(worse.save(tmp_path / "worse"))
    asked = []
    run.model.register_forward_pre_hook(lambda *_: asked.append(1))
    config = {"run": run, "scale": 2.0, "interval": (LOW, HIGH)}
    guidance = diffkit.resolve("guidance", "guidance.auto")(**config)
    plain = good.sample(2000, steps=20, batch_size=2000)
    led = good.sample(2000, steps=20, batch_size=2000, guidance=guidance)
    process = good.parts.process
    times = [state.t for state in good.trajectory(1, steps=20)][:-1]
    inside = sum(LOW <= float(process.log_snr(t)) <= HIGH for t in times)
    report(
        "autoguidance in an interval",
        f"{stray(led):.3f} of the samples stray, {stray(plain):.3f} without, by {len(asked)} calls "
        "of the worse network in 20 steps",
    )
    assert len(asked) == inside < 20
    assert stray(led) < 0.9 * stray(plain)
