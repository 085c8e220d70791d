"""docs/examples/cfg_plus_plus.py"""

from __future__ import annotations

import torch

import diffkit

from .common import QUICK, Ring, host_of

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 64, "depth": 3}},
    "loss": "simple",
    "sampler": "local.cfg_plus_plus",
    "encoder": {"id": "guidance.label", "config": {"classes": 8}},
    "guidance": "local.interpolation",
    "data": {"shape": [2]},
}


def test_a_step_is_the_papers_and_follows_the_condition():
    """`x_s = alpha_s x_0(guided) + sigma_s epsilon(unguided)`, by hand; and samples are of the
    class that they are led to.
    """
    pipeline = diffkit.build(SPEC, host=host_of("cfg_plus_plus"))
    pipeline.train(Ring(labelled=True), steps=600, **QUICK)
    said = {"label": [3] * 500}
    states = list(pipeline.trajectory(500, steps=10, condition=said))
    x_t, t, s = states[4].x, states[4].t, states[5].t
    towards = pipeline.denoiser(condition=said)(x_t, t)
    away = pipeline.denoiser()(x_t, t)
    epsilon = away.epsilon + 0.6 * (towards.epsilon - away.epsilon)
    process = pipeline.parts.process
    (alpha, sigma), (alpha_s, sigma_s) = (process.scales(process.log_snr(u)) for u in (t, s))
    wanted = alpha_s * (x_t - sigma * epsilon) / alpha + sigma_s * away.epsilon
    # float32, and a joint batch sums in another order.
    torch.testing.assert_close(states[5].x, wanted.float(), rtol=1e-4, atol=1e-4)
    angle = torch.tensor(3 * torch.pi / 4)
    centre = torch.stack([angle.cos(), angle.sin()])
    near = ((states[-1].x - centre).norm(dim=1) < 0.4).float().mean()
    print(f"share of samples at the class that was asked for: {float(near):.2f}")
    assert near > 0.8
