"""Augmentation that does not leak, `non-leaking`: Karras et al. (2022), appendix F.2."""

from __future__ import annotations

import torch
from torch import nn

import diffkit

from .common import QUICK, report

MIRRORED = torch.eye(9)[:1]
SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "parameterization": "x_0",
    "loss": "simple",
    "sampler": "samplers.ddim",
    "dataset": "digits",
    "training": {"augmentations": ["non-leaking"]},
}


class Net(nn.Module):
    """Residual layers over all pixels; `told` of what was done to them, or not."""

    def __init__(self, *, told, width=128):
        super().__init__()
        self.told = told
        self.inside, self.outside = nn.Linear(64, width), nn.Linear(width, 64)
        self.level, self.label = nn.Linear(2, width), nn.Linear(9, width)
        layers = (nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU())
        self.between = nn.Sequential(*layers, nn.Linear(width, width))

    def forward(self, x, c_noise, augmentation):
        level = c_noise[:, None] / 1000
        # What was done is seldom nothing: four times the label is learned sooner.
        label = self.label(4 * augmentation if self.told else torch.zeros_like(augmentation))
        hidden = self.inside(x.flatten(1)) + self.level(torch.cat([level, level**2], 1)) + label
        hidden = nn.functional.silu(hidden + self.between(hidden))
        return self.outside(hidden).reshape(x.shape)


def one_sided(x, data):
    """How far the mean picture is from its mirror image, in the direction and the units of the
    data's: 1 of digits as they are, -1 mirrored, and 0 where half of them are.
    """
    apart, wanted = (mean - mean.flip(-1) for mean in (x.mean(0), data.mean(0)))
    return float((apart * wanted).sum() / wanted.square().sum())


def test_samples_show_nothing_of_it_where_the_network_is_told():
    """And as much of it as the data where it is not, though it is the same in all else."""
    found = {}
    for told in (True, False):
        torch.manual_seed(0)
        model = diffkit.wrap(Net(told=told), conditions=["augmentation"])
        pipeline = diffkit.build({**SPEC, "model": model})
        pipeline.train(steps=400, **{**QUICK, "batch_size": 128})
        data = pipeline.dataset()
        data = data.batch(range(len(data))).x_0
        for name, choice in (("as they are", {}), ("mirrored", {"augmentation": MIRRORED})):
            x = pipeline.sample(512, steps=20, batch_size=512, condition=choice or None)
            found[told, name] = one_sided(x, data)
    told, mirrored = (found[True, name] for name in ("as they are", "mirrored"))
    report(
        "non-leaking augmentation",
        f"of the data's asymmetry {told:.2f}, labelled as mirrored {mirrored:.2f}, untold "
        f"{found[False, 'as they are']:.2f}",
    )
    # The mean of 512 samples is within 0.1 of the digits' own.
    assert found[True, "as they are"] > 0.5
    assert found[True, "mirrored"] < -0.5
    assert abs(found[False, "as they are"]) < 0.3
    assert found[False, "as they are"] == found[False, "mirrored"]
