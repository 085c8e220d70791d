"""With the exact denoiser, the bound on continuous data tends to their entropy.

Kingma et al. (2021), section 4.2; the sum over ever shorter steps is the integral of the
mean squared error over the signal-to-noise ratio, which is the entropy but for both ends.
"""

from __future__ import annotations

import math

import pytest
import torch

from diffkit.bundled.losses.elbo import Elbo
from diffkit.bundled.metrics.bits_per_dim import BitsPerDim
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.karras import Karras
from diffkit.bundled.schedules.learned import Learned
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.schedules.rectified import Rectified
from diffkit.bundled.schedules.sigmoid import Sigmoid
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch, LossContext
from diffkit.core.noise import BatchNoise
from diffkit.core.times import DrawnTimes
from diffkit.testing.oracles import ExactGaussian

MEAN, VARIANCE = 0.1, 0.09
X = MEAN + math.sqrt(VARIANCE) * torch.randn(
    1000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
)
# Of these samples, whose own cross entropy is that of the law but for their variance.
ENTROPY = float(
    (0.5 * math.log2(2 * math.pi * VARIANCE))
    + 0.5 * ((X - MEAN).square().mean() / VARIANCE) / math.log(2)
)
CURVES = [VariancePreserving, VarianceExploding, RectifiedFlow]


class Normal(Dataset):
    @property
    def shape(self):
        return (4,)

    def __len__(self):
        return len(X)

    def batch(self, indices):
        return Batch(X[list(indices)])


def bits(process, steps, variance=None):
    exact = ExactGaussian(process, MEAN, VARIANCE)
    metric = BitsPerDim(levels=None, steps=steps, variance=variance)
    with torch.no_grad():
        found = metric.measure_model(lambda _: exact, Normal(), 0, torch.device("cpu"))
    return found.values["bits_per_dim"]


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("make", [Learned, Karras], ids=lambda s: s.__name__)
def test_it_tends_to_the_entropy_where_the_noise_ends(make, curve):
    """With the smallest variance too: the excess falls as 1/T, whatever T does to the last step."""
    process = curve(schedule=make())
    excess = [bits(process, steps, "fixed_small") - ENTROPY for steps in (500, 1000)]
    # 21 terms of 1000 samples leave 0.01 to chance.
    assert excess[-1] < 0.16
    assert excess[0] / excess[1] == pytest.approx(2.0, rel=0.25)


ALL = [Learned, Karras, Cosine, Linear, Sigmoid, Rectified]
# Of variance exploding, `rectified` has no prior: its noise is infinite at t = 1.
PAIRS = [(s, c) for s in ALL for c in CURVES if (s, c) != (Rectified, VarianceExploding)]


@pytest.mark.parametrize(("make", "curve"), PAIRS, ids=lambda c: c.__name__)
def test_it_tends_to_the_entropy_on_every_schedule(make, curve):
    """Where log-SNR is unbounded at 0 too, as on `rectified`: the default is `fixed_large`."""
    process = curve(schedule=make())
    steps = process.schedule.steps or 1000
    excess = bits(process, steps) - ENTROPY
    # 21 terms of 1000 samples leave 0.01 to chance; steps of 1/1000 cost 0.07 under `karras`.
    assert -0.02 < excess < 0.08
    if process.schedule.steps is None:
        assert excess < 0.5 * (bits(process, 20) - ENTROPY)


def test_the_smallest_variance_keeps_a_gap_where_log_snr_is_unbounded():
    """`sum_k (r - 1 - log r)/2`, `r = (k/(k-1))^2`, is 1.4 nats, whatever T is."""
    process, k = VariancePreserving(schedule=Rectified()), torch.arange(2.0, 1001.0)
    ratio = (k / (k - 1)).square()
    gap = float((0.5 * (ratio - 1 - ratio.log())).sum()) / math.log(2)
    assert bits(process, 1000, "fixed_small") - ENTROPY == pytest.approx(gap, rel=0.1)


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("make", [Learned, Karras], ids=lambda s: s.__name__)
def test_the_loss_is_the_same_bound(make, curve):
    process, steps, each = curve(schedule=make()), 1000, 30
    t = torch.arange(1, steps + 1, dtype=torch.float64).repeat_interleave(each) / steps
    rows = torch.arange(len(t)) % len(X)
    noise = BatchNoise(seed=0, step=0, rows=range(len(t)), total=len(t), dtype=torch.float64)
    context = LossContext(
        ExactGaussian(process, MEAN, VARIANCE),
        process,
        noise,
        lambda _: DrawnTimes(t, torch.ones_like(t)),
        0,
    )
    with torch.no_grad():
        values = Elbo(levels=None, steps=steps)(Batch(X[rows]), context).values
    # One decoder term in a thousand, of 30 samples and weight 1000: 0.5 / sqrt(120) nats.
    assert float(values.mean()) == pytest.approx(bits(process, steps), abs=0.25)
