"""The simplified ELBO."""

from __future__ import annotations

import math

import pytest
import torch

from diffkit.bundled.losses.simple import Simple
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.denoiser import Denoiser
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.loss import Batch, LossContext
from diffkit.core.model import EpsilonModel
from diffkit.core.noise import BatchNoise
from diffkit.core.prediction import GaussianPrediction, Prediction
from diffkit.core.times import DrawnTimes
from diffkit.core.weighting import Weighting
from diffkit.errors import ComponentError

PROCESS = VariancePreserving(schedule=Linear())
every_parameterization = pytest.mark.parametrize(
    "parameterization", [Epsilon(), X0(), Velocity()], ids=lambda p: type(p).__name__
)
TIMES = torch.tensor([0.001, 0.3, 0.7, 1.0], dtype=torch.float64)


class Signal(Weighting):
    def weight(self, log_snr):
        return torch.sigmoid(log_snr)


class Truth(Denoiser):
    """Knows the batch, and recovers epsilon from what it is shown."""

    def __init__(self, x_0, parameterization, error=0.0):
        self.x_0, self.parameterization, self.error = x_0, parameterization, error
        self.seen = []

    @property
    def process(self):
        return PROCESS

    def __call__(self, x_t, t, *, given=None, times=None):
        self.seen.append((x_t, t))
        scales = PROCESS.scales(PROCESS.log_snr(t))
        target = self.parameterization.target(scales)
        shape = (-1, *[1] * (x_t.ndim - 1))
        alpha, sigma, a, b = (c.reshape(shape) for c in (*scales, *target))
        epsilon = (x_t - alpha * self.x_0) / sigma
        return GaussianPrediction(a * self.x_0 + b * epsilon + self.error, x_t, target, scales)


class Zero(EpsilonModel):
    """Outputs one learned number, 0 at first."""

    def __init__(self):
        super().__init__()
        self.constant = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, c_noise, condition):
        return self.constant.expand_as(x)


def context(denoiser, times=TIMES, weight=None, dtype=torch.float64):
    def draw_times(count):
        assert count == len(times)
        return DrawnTimes(times, torch.ones_like(times) if weight is None else weight)

    noise = BatchNoise(seed=0, step=0, rows=range(len(times)), total=len(times), dtype=dtype)
    return LossContext(
        denoiser=denoiser, process=PROCESS, noise=noise, draw_times=draw_times, step=0
    )


def data(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@every_parameterization
def test_zero_at_the_exact_answer(parameterization):
    x_0 = data(4, 3, 2)
    record = Simple()(Batch(x_0), context(Truth(x_0, parameterization)))
    assert record.values.shape == (4,)
    assert torch.equal(record.t, TIMES)
    # epsilon is recovered by a division by sigma, at least 0.01: an error of 1e-13, squared.
    assert record.values.max() < 1e-25


@every_parameterization
def test_a_known_error_is_its_square_in_every_sample(parameterization):
    x_0 = data(4, 3, 2)
    error = torch.tensor([0.0, 1.0, -2.0, 3.0], dtype=torch.float64).reshape(4, 1, 1)
    record = Simple()(Batch(x_0), context(Truth(x_0, parameterization, error)))
    assert record.values.tolist() == pytest.approx([0.0, 1.0, 4.0, 9.0], rel=1e-12, abs=1e-20)


def test_the_square_is_averaged_over_coordinates():
    x_0 = data(4, 2, 3)
    error = torch.zeros(2, 3, dtype=torch.float64)
    error[0, 0] = 6.0
    record = Simple()(Batch(x_0), context(Truth(x_0, Epsilon(), error)))
    assert record.values.tolist() == pytest.approx([6.0] * 4, rel=1e-12)


@every_parameterization
def test_about_one_for_a_network_that_outputs_zeros(parameterization):
    count, size = 64, 256
    times = (1 + torch.arange(count, dtype=torch.float64)) / count
    denoiser = GaussianDenoiser(Zero(), parameterization, PROCESS)
    x_0 = data(count, size, dtype=torch.float32)
    with torch.no_grad():
        record = Simple()(Batch(x_0), context(denoiser, times, dtype=torch.float32))
    # All three targets have unit variance under unit-variance data; a mean of squares of n
    # numbers is off by more than 5 sqrt(2/n) once in 1.7 million.
    assert abs(record.values.mean().item() - 1) < 5 * math.sqrt(2 / (count * size))
    assert (record.values - 1).abs().max() < 7 * math.sqrt(2 / size)
    assert record.values.dtype == torch.float32


def test_the_denoiser_sees_the_diffused_batch_at_the_drawn_times():
    x_0 = data(4, 5)
    truth = Truth(x_0, Epsilon())
    Simple()(Batch(x_0), context(truth))
    (x_t, t), *more = truth.seen
    assert not more
    assert torch.equal(t, TIMES)
    epsilon = context(truth).noise.normal((4, 5))
    assert torch.equal(x_t, PROCESS.diffuse(x_0, TIMES, epsilon))


def test_both_weights_apply():
    x_0 = data(4, 5)
    importance = torch.tensor([1.0, 2.0, 0.5, 0.0], dtype=torch.float64)
    plain = Simple()(Batch(x_0), context(Truth(x_0, Epsilon(), 2.0))).values
    weighted = Simple(weighting=Signal())(
        Batch(x_0), context(Truth(x_0, Epsilon(), 2.0), weight=importance)
    ).values
    signal = torch.sigmoid(PROCESS.log_snr(TIMES))
    assert torch.allclose(weighted, plain * importance * signal, rtol=1e-14, atol=0)


@every_parameterization
def test_the_gradient_points_to_the_exact_answer(parameterization):
    model = Zero()
    model.constant.data.fill_(0.5)
    denoiser = GaussianDenoiser(model, parameterization, PROCESS)
    # Data whose targets are of mean zero: a constant must shrink, as d/dc E(c - target)^2 = 2c.
    x_0 = data(64, 256, dtype=torch.float32)
    times = (1 + torch.arange(64, dtype=torch.float64)) / 64
    Simple()(Batch(x_0), context(denoiser, times, dtype=torch.float32)).values.mean().backward()
    # The mean target of 16,384 numbers is off by 5/128 once in 1.7 million.
    assert model.constant.grad.item() == pytest.approx(1.0, abs=2 * 5 / 128)


def test_the_batch_is_not_written():
    x_0 = data(4, 5)
    kept = x_0.clone()
    Simple(weighting=Signal())(Batch(x_0), context(Truth(x_0, Velocity(), 1.0)))
    assert torch.equal(x_0, kept)


def test_it_needs_a_gaussian_prediction():
    class Other(Prediction):
        x_0 = torch.zeros(1)

    class Stub(Truth):
        def __call__(self, x_t, t, *, given=None, times=None):
            return Other()

    with pytest.raises(ComponentError, match="no Gaussian prediction"):
        Simple()(Batch(data(4, 5)), context(Stub(None, None)))
