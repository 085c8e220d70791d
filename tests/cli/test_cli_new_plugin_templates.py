"""The components that `diffkit new-plugin` writes pass the kit, and obey their closed forms."""

import math
from itertools import pairwise
from types import ModuleType

import pytest
import torch

import diffkit
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.schedules.rectified import Rectified
from diffkit.cli.new_plugin import FURTHER, package, parts_of
from diffkit.core.denoiser import ModelDenoiser
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.loss import Batch, LossContext
from diffkit.core.noise import SampleNoise
from diffkit.core.times import DrawnTimes
from diffkit.plugins.kinds import KINDS
from diffkit.testing import ExactGaussian, parametrize_with_checks

_TEMPLATES = [*KINDS, *FURTHER]


def _written():
    """The module of a package with all templates."""
    module = ModuleType("diffkit_whole")
    exec(package("whole", _TEMPLATES)["src/diffkit_whole/__init__.py"], vars(module))
    return module


_MODULE = _written()
_CLASSES = [getattr(_MODULE, name) for template in _TEMPLATES for _, _, name in parts_of(template)]


@pytest.fixture
def whole():
    return _MODULE


@parametrize_with_checks(_CLASSES)
def test_contract(component, check):
    check(component)


def test_schedule(whole):
    for sharpness in (0.1, 6.0):
        betas = whole.Sigmoid(sharpness=sharpness).betas
        assert bool((betas.diff() > 0).all())
        # The sigmoid is symmetric, so that the betas average to the middle of their range.
        torch.testing.assert_close(betas.mean(), betas.new_tensor((1e-4 + 0.02) / 2))
    spread = [float(whole.Sigmoid(sharpness=s).betas.std()) for s in (0.1, 1.0, 6.0)]
    assert spread == sorted(spread)
    with pytest.raises(diffkit.ComponentError, match="beta_last"):
        whole.Sigmoid(beta_first=0.1, beta_last=0.01)


def test_process(whole):
    process = whole.RectifiedFlow(schedule=Linear())
    log_snr = torch.linspace(-30, 30, 61, dtype=torch.float64)
    alpha, sigma = process.scales(log_snr)
    torch.testing.assert_close(alpha + sigma, torch.ones_like(alpha))
    torch.testing.assert_close(2 * (alpha.log() - sigma.log()), log_snr)


def test_masking_stays_on_the_device(whole):
    # There, a tensor of another device or a value that the host reads is an error.
    process = whole.Masking(schedule=Linear(), vocabulary=3)
    noise = SampleNoise(seed=0, indices=range(2), device="meta")
    x_0 = torch.zeros(2, 4, dtype=torch.int64, device="meta")
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    for x_t in (process.prior((2, 4), noise), process.diffuse(x_0, t, process.draw(x_0, noise))):
        prediction = process.interpret(torch.zeros(2, 4, 3, device="meta"), x_t, 0.7)
        x_s = process.reverse(prediction, x_t, 0.7, 0.3, noise)
        assert (x_t.device.type, x_s.device.type, x_s.dtype) == ("meta", "meta", torch.int64)


def test_masked_cross_entropy(whole):
    # Nothing is hidden at a tiny t, and all at t = 1 of a schedule that leaves no signal there.
    process = whole.Masking(schedule=Rectified(), vocabulary=3)
    x_0 = torch.tensor([[0, 1, 2, 2], [2, 2, 0, 1]])
    logits = torch.tensor([0.2, -0.3, 0.5]).expand(2, 4, 3)
    nats = -logits.log_softmax(-1).gather(-1, x_0[..., None]).mean((1, 2))

    def values(*t):
        t = torch.tensor(t, dtype=torch.float64)
        denoiser = ModelDenoiser(lambda x, c_noise, condition: logits, process)
        draw = lambda n: DrawnTimes(t, torch.full_like(t, 2.0))  # noqa: E731
        noise = SampleNoise(seed=0, indices=range(2))
        return whole.MaskedCrossEntropy()(
            Batch(x_0), LossContext(denoiser, process, noise, draw, step=0)
        ).values

    torch.testing.assert_close(values(1.0, 1.0), 2 * nats)
    assert torch.equal(values(1e-9, 1e-9), torch.zeros(2))


def test_model(whole):
    torch.manual_seed(0)
    for shape in ((2,), (1, 4, 4)):
        model = whole.ResidualMLP(shape=shape, width=8, depth=2).eval()
        x, c_noise = torch.randn(3, *shape), torch.tensor([1.0, 500.0, 1000.0])
        output = model(x, c_noise, {})
        assert output.shape == x.shape
        torch.testing.assert_close(model(x[1:2], c_noise[1:2], {}), output[1:2])
        assert not torch.allclose(model(x, c_noise.flip(0), {}), output)
        output.square().sum().backward()
        assert all(bool((p.grad != 0).any()) for p in model.parameters())


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_sampler(whole, eta):
    process = VariancePreserving(schedule=Linear())
    noise = SampleNoise(seed=0, indices=range(4000), dtype=torch.float64)
    x = process.prior((4000, 1), noise)
    times = [1 - i / 100 for i in range(100)] + [0.0]
    exact = ExactGaussian(process, covariance=0.25)
    for state in whole.DDIM(eta=eta).trajectory(exact, x, times, noise, {}):
        x = state.x
    # 4 standard errors of 4000 samples are 4.5 %; a hundred steps are off by 3 % at eta = 0.
    assert abs(float(x.std()) - 0.5) < 0.04


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_sampler_s_new_noise_has_the_variance_that_eta_says(whole, eta):
    process = VariancePreserving(schedule=Linear())
    noise = SampleNoise(seed=0, indices=range(4000), dtype=torch.float64)
    x_t, t, s = torch.full((4000, 1), 0.7, dtype=torch.float64), 0.5, 0.4
    exact = ExactGaussian(process, covariance=0.25)
    levels = process.levels([t, s])
    x_s = whole.DDIM(eta=eta).step(exact(x_t, t), *levels, noise)
    expected = eta * float(process.posterior(x_t, x_t, t, s).variance.sqrt())
    # 4 standard errors of 4000 samples are 4.5 %.
    assert math.isclose(float(x_s.std()), expected, rel_tol=0.045, abs_tol=1e-9)


def test_parameterization(whole):
    process = whole.RectifiedFlow(schedule=Linear())
    x_0, epsilon = torch.randn(2, 3, 2, dtype=torch.float64)
    flow = whole.Flow()
    for t in (0.01, 0.5, 1.0):
        target = flow.target(process.scales(process.log_snr(t)))
        x_t = process.diffuse(x_0, t, epsilon)
        prediction = process.interpret(epsilon - x_0, x_t, t, target)
        torch.testing.assert_close(prediction.x_0, x_0)
        torch.testing.assert_close(prediction.epsilon, epsilon)


def test_times(whole):
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    schedule = Linear()
    for mean, std in ((0.0, 1.0), (0.7, 0.5)):
        t, weight = whole.LogitNormal(mean=mean, std=std).draw(u, schedule)
        assert bool((weight == 1).all())
        # The grid of 1000 moves each t by less than 1e-3.
        assert abs(float(t.median()) - 1 / (1 + math.exp(-mean))) < 2e-3
        assert abs(float(t.quantile(0.8413)) - 1 / (1 + math.exp(-mean - std))) < 2e-3
    ends = whole.LogitNormal().draw(torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), schedule)
    assert bool(((ends.t > 0) & (ends.t <= 1)).all())


def test_weighting(whole):
    snr = torch.tensor([0.0, 1e-3, 5.0, 50.0, math.inf], dtype=torch.float64)
    expected = torch.tensor([1.0, 1.0, 1.0, 0.1, 0.0], dtype=torch.float64)
    torch.testing.assert_close(whole.MinSNR(gamma=5.0).weight(snr.log()), expected)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 7.0])
@pytest.mark.parametrize("grid", [1, 7, 100, 1000])
def test_spacing(whole, power, grid):
    spacing, schedule = whole.Power(power=power), Linear(steps=grid, rescale=False)
    for steps in {1, 2, grid // 3, grid - 1, grid} & set(range(1, grid + 1)):
        times = spacing.times(steps, schedule)
        assert len(times) == steps + 1
        assert (times[0], times[-1]) == (1.0, 0.0)
        assert all(t > s for t, s in pairwise(times))
        assert all(abs(t * grid - round(t * grid)) < 1e-9 for t in times)
    for steps in (0, grid + 1):
        with pytest.raises(diffkit.ComponentError, match="steps"):
            spacing.times(steps, schedule)


def test_dataset(whole):
    data = whole.Checkerboard(size=5000, cells=4)
    x = data.batch(range(5000)).x_0
    assert bool(((x >= -1) & (x <= 1)).all())
    assert torch.equal(x, whole.Checkerboard(size=5000, cells=4).batch(range(5000)).x_0)
    assert not torch.equal(x, whole.Checkerboard(size=5000, seed=1).batch(range(5000)).x_0)
    cells = ((x + 1) * 2).floor().clamp(max=3).sum(1).remainder(2)
    # A point on the very edge of a cell may be rounded into the next.
    assert float((cells == 0).double().mean()) > 0.999
    counts = torch.histogramdd(x, bins=4).hist
    # 625 points in each of 8 cells; 5 standard deviations are 117.
    assert bool(((counts[counts > 50] - 625).abs() < 120).all())


def test_features(whole):
    data = whole.Checkerboard(size=8)
    x = torch.randn(50, 2)
    embed = whole.Projection(features=20_000).fit(data, 0)
    ratio = embed(x).square().sum(1) / x.square().sum(1)
    # Of a chi-square with 20000 degrees of freedom, over 20000: 1 +- 1 %.
    torch.testing.assert_close(ratio, torch.ones(50), atol=0.05, rtol=0)
    small = whole.Projection(features=3)
    assert torch.equal(small.fit(data, 1)(x), small.fit(data, 1)(x))
    assert not torch.equal(small.fit(data, 1)(x), small.fit(data, 2)(x))
    assert small.fit(data, 0)(x).shape == (50, 3)


def test_metric(whole):
    data = whole.Checkerboard(size=100)
    metric = whole.Moments(max_samples=500)
    assert metric.samples_needed(data) == 100
    assert whole.Moments(max_samples=7).samples_needed(data) == 7
    x = data.batch(range(100)).x_0
    values = metric.measure(x, data, 0, None)
    # float32 data, float64 sums in another order.
    assert max(values.values()) < 1e-7
    for bad in (x[:, :1], x / 0):
        with pytest.raises(diffkit.DataError, match="moments"):
            metric.measure(bad, data, 0, None)
    values = metric.measure(3 * x + 1, data, 0, None)
    spread = x.double().std(0, correction=0)
    assert math.isclose(
        values["std_distance"], float((2 * spread).square().mean().sqrt()), rel_tol=1e-6
    )


def test_loss(whole):
    process = VariancePreserving(schedule=Linear())
    x_0 = torch.full((6, 2), 0.3, dtype=torch.float64)
    t = torch.tensor([0.001, 0.1, 0.3, 0.5, 0.9, 1.0], dtype=torch.float64)

    def values(denoiser, scale):
        noise = SampleNoise(seed=0, indices=range(6), dtype=torch.float64)
        draw = lambda n: DrawnTimes(t, torch.full_like(t, 2.0))  # noqa: E731
        context = LossContext(denoiser, process, noise, draw, step=0)
        return whole.PseudoHuber(scale=scale)(Batch(x_0), context).values

    # A point's exact denoiser knows the noise, up to rounding in x_t.
    exact = ExactGaussian(process, mean=0.3, covariance=0.0)
    assert float(values(exact, 0.1).max()) < 1e-12

    class Zero(torch.nn.Module):
        def forward(self, x, c_noise, condition):
            return torch.zeros_like(x)

    zero = GaussianDenoiser(Zero(), Epsilon(), process)
    epsilon = SampleNoise(seed=0, indices=range(6), dtype=torch.float64).normal((6, 2))
    for scale in (0.1, 10.0):
        expected = 2 * ((epsilon.square().mean(1) + scale**2).sqrt() - scale)
        torch.testing.assert_close(values(zero, scale).double(), expected)
