"""docs/examples/cfg_plus_plus.py"""

from __future__ import annotations

import torch
from torch import nn

import diffkit

from .common import QUICK, Ring, host_of, report

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "loss": "simple",
    "sampler": "local.cfg_plus_plus",
    "guidance": "local.interpolation",
    "data": {"shape": [2], "range": [-2, 2]},
}


class Net(nn.Module):
    """Points, with a raw label; 8 is none."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 64)
        self.inside, self.between = nn.Linear(3, 64), nn.Linear(64, 64)
        self.outside = nn.Linear(64, 2)

    def forward(self, x, c_noise, label):
        hidden = self.inside(torch.cat([x, c_noise[:, None] / 1000], dim=1))
        hidden = nn.functional.silu(hidden + self.table(label))
        return self.outside(hidden + nn.functional.silu(self.between(hidden)))


def test_a_step_is_the_papers_and_follows_the_condition():
    """`x_s = alpha_s x_0(guided) + sigma_s epsilon(unguided)`, by hand; and samples are of the
    class that they are led to.
    """
    torch.manual_seed(0)
    model = diffkit.wrap(Net(), conditions=["label"], null={"label": 8})
    pipeline = diffkit.build({**SPEC, "model": model}, host=host_of("cfg_plus_plus"))
    pipeline.train(Ring(labelled=True), steps=600, **QUICK)
    said = {"label": [3] * 500}
    states = list(pipeline.trajectory(500, steps=10, condition=said))
    x_t, t, s = states[4].x, states[4].t, states[5].t
    towards = pipeline.denoiser(condition=said)(x_t, t)
    away = pipeline.denoiser(condition={"label": 8})(x_t, t)
    epsilon = away.epsilon + 0.6 * (towards.epsilon - away.epsilon)
    process = pipeline.parts.process
    (alpha, sigma), (alpha_s, sigma_s) = (process.scales(process.log_snr(u)) for u in (t, s))
    x_0 = ((x_t - sigma * epsilon) / alpha).clamp(-2, 2)
    wanted = alpha_s * x_0 + sigma_s * away.epsilon
    # float32, and a joint batch sums in another order.
    torch.testing.assert_close(states[5].x, wanted.float(), rtol=1e-4, atol=1e-4)
    angle = torch.tensor(3 * torch.pi / 4)
    centre = torch.stack([angle.cos(), angle.sin()])
    near = ((states[-1].x - centre).norm(dim=1) < 0.4).float().mean()
    report("CFG++", f"{float(near):.2f} of the samples are of the class that was asked for")
    assert near > 0.8
