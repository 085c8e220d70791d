"""Flow matching, EDM and zero terminal SNR, made of the same parts: their formulas, and that they
train and sample.
"""

from __future__ import annotations

import math

import pytest
import torch

import diffkit
from diffkit.bundled.parameterizations.edm import EDM
from diffkit.bundled.parameterizations.flow import Flow
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.karras import Karras
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.schedules.rectified import Rectified
from diffkit.bundled.schedules.sigmoid import Sigmoid
from diffkit.bundled.schedules.zero_terminal import ZeroTerminal
from diffkit.core.bound import Bound
from diffkit.core.noise import SampleNoise
from diffkit.core.prediction import GaussianPrediction
from diffkit.errors import ComponentError
from diffkit.storage.run_directory import read_metrics

GRID = torch.arange(1, 1001, dtype=torch.float64) / 1000


def test_even_steps_on_karras_are_those_of_edm() -> None:
    """Karras et al. (2022), eq. 5, with N = 18."""
    process = VarianceExploding(schedule=Karras())
    steps = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(17)]
    t = torch.tensor([1.0 - i / 17 for i in range(17)], dtype=torch.float64)
    sigma = process.scales(process.log_snr(t)).sigma
    assert torch.allclose(sigma, torch.tensor(steps, dtype=torch.float64), rtol=1e-12)
    # Towards t = 0 the noise falls to sigma_min, which t_min comes near.
    smallest = float(process.scales(process.log_snr(process.schedule.t_min)).sigma)
    assert smallest == pytest.approx(0.002, rel=0.01)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_sigma_of_rectified_flow_is_time(shift) -> None:
    process = RectifiedFlow(schedule=Rectified(shift=shift))
    t = torch.linspace(0.0, 1.0, 101, dtype=torch.float64)
    alpha, sigma = process.scales(process.log_snr(t))
    wanted = shift * t / (1.0 + (shift - 1.0) * t)
    assert torch.allclose(sigma, wanted, rtol=1e-13, atol=1e-300)
    assert torch.allclose(alpha, 1.0 - wanted, rtol=1e-12, atol=1e-16)
    assert process.prior_deviation == 1.0


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_sigmoid_follows_its_curve(tau) -> None:
    schedule = Sigmoid(tau=tau)
    kept = torch.cumprod(1.0 - schedule.betas, 0)
    v = [1.0 / (1.0 + math.exp(-(-3.0 + 6.0 * float(t)) / tau)) for t in (0.0, 1.0)]
    at = torch.sigmoid((-3.0 + 6.0 * GRID) / tau)
    wanted = (v[1] - at) / (v[1] - v[0])
    # The last beta is clipped. Differences of sigmoids near 1 lose what 1e-16 is of them.
    assert torch.allclose(kept[:-1], wanted[:-1], rtol=1e-9)
    assert float(schedule.betas[-1]) == 0.999
    assert int((schedule.betas >= 0.999).sum()) == 1


@pytest.mark.parametrize("inner", [Linear(), Cosine(), Sigmoid(), Karras(), Rectified()])
def test_zero_terminal_keeps_the_first_step_and_ends_in_noise(inner) -> None:
    schedule = ZeroTerminal(schedule=inner)
    a = torch.sigmoid(inner.log_snr(GRID)).sqrt()
    moved = torch.sigmoid(schedule.log_snr(GRID)).sqrt()
    assert float(schedule.log_snr(1.0)) == -math.inf
    assert float(schedule.log_snr(GRID[0])) == pytest.approx(
        float(inner.log_snr(GRID[0])), rel=1e-9
    )
    # A straight line of the square roots: Lin et al. (2024), Algorithm 1.
    slope = a[0] / (a[0] - a[-1])
    assert torch.allclose(moved, (a - a[-1]) * slope, rtol=1e-9, atol=1e-12)


def test_zero_terminal_is_told_what_it_cannot_move() -> None:
    with pytest.raises(ComponentError, match="the schedule has 1000"):
        ZeroTerminal(schedule=Linear(), steps=10)


@pytest.mark.parametrize("curve", [VariancePreserving, VarianceExploding, RectifiedFlow])
def test_edm_is_what_the_paper_says_on_every_curve(curve) -> None:
    """In the paper's variables: `D(x; s) = c_skip x + c_out F`, with `x = x_t / alpha`."""
    d, parameterization = 0.5, EDM(sigma_data=0.5)
    process = curve(schedule=Karras())
    t = torch.linspace(0.05, 1.0, 8, dtype=torch.float64)
    scales = process.scales(process.log_snr(t))
    alpha, sigma = (c[:, None] for c in scales)
    x_t, output = torch.randn(2, 8, 5, dtype=torch.float64)
    prediction = GaussianPrediction(output, x_t, parameterization.target(scales), scales)
    s, x = sigma / alpha, x_t / alpha
    c_skip, c_out = d**2 / (s**2 + d**2), s * d / (s**2 + d**2).sqrt()
    assert torch.allclose(prediction.x_0, c_skip * x + c_out * output, rtol=1e-11)
    c_in = (1.0 / (s**2 + d**2).sqrt())[:, 0]
    assert torch.allclose(parameterization.c_in(scales), c_in / alpha[:, 0], rtol=1e-12)
    told = parameterization.c_noise(t, process.log_snr(t))
    assert torch.allclose(told, s[:, 0].log() / 4.0, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("curve", [VariancePreserving, VarianceExploding, RectifiedFlow])
def test_flow_is_the_direction_from_data_to_noise(curve) -> None:
    process = curve(schedule=Cosine())
    t = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    scales = process.scales(process.log_snr(t))
    x_0, epsilon = torch.randn(2, 3, 4, dtype=torch.float64)
    x_t = process.diffuse(x_0, t, epsilon)
    found = GaussianPrediction(epsilon - x_0, x_t, Flow().target(scales), scales)
    assert torch.allclose(found.x_0, x_0, rtol=1e-9, atol=1e-12)
    assert torch.allclose(found.epsilon, epsilon, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("curve", [VariancePreserving, VarianceExploding, RectifiedFlow])
def test_the_prior_is_as_wide_as_it_says(curve) -> None:
    process = curve(schedule=Karras())
    noise = SampleNoise(seed=0, indices=range(8), dtype=torch.float64)
    x = process.prior((8, 2000), noise)
    # Sixteen thousand numbers know a deviation to 0.6 %; five of that.
    assert float(x.std()) == pytest.approx(float(process.prior_deviation), rel=0.03)
    # What is left of the data at t = 1 costs next to nothing.
    bits = Bound(process, 1000, None, None).prior(0.5 * torch.ones(2, 3, dtype=torch.float64))
    assert 0.0 <= float(bits.max()) < 1e-4


DIGITS = {
    "model": {"id": "mlp", "config": {"width": 64, "depth": 2}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 10,
    "training": {"batch_size": 64, "steps": 60, "warmup_steps": 5, "learning_rate": 2e-3},
}
SYSTEMS = {
    "flow matching": {
        "schedule": "rectified",
        "process": "rectified-flow",
        "parameterization": "flow",
        "times": "logit-normal",
    },
    "EDM": {
        "schedule": "karras",
        "process": "variance-exploding",
        "parameterization": "edm",
        "times": "lognormal",
        "loss": {"id": "simple", "config": {"weighting": "edm"}},
    },
    "zero terminal SNR": {
        "schedule": {"id": "zero-terminal", "config": {"schedule": {"id": "linear"}}},
        "process": "variance-preserving",
        "parameterization": "velocity",
    },
    "sigmoid": {"schedule": "sigmoid", "process": "variance-preserving"},
}


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_systems_learn_and_sample(system, tmp_path) -> None:
    pipeline = diffkit.build({**DIGITS, **system}, device="cpu")
    pipeline.train(out=tmp_path / "run", progress=False, log_every=20)
    lines = [line["loss"] for line in read_metrics(tmp_path / "run")]
    assert lines[-1] < 0.95 * lines[0]
    samples = diffkit.load(tmp_path / "run", device="cpu").sample(4)
    assert bool(samples.isfinite().all())
    assert float(samples.abs().max()) <= 1.0 + 1e-6
    assert torch.equal(samples, pipeline.sample(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "rectified", "process": "variance-preserving"}, "zero terminal SNR"),
        (
            {"schedule": "rectified", "process": "variance-exploding", "parameterization": "flow"},
            "infinite noise",
        ),
        (
            {"schedule": "rectified", "process": "variance-preserving", "parameterization": "edm"},
            "infinite where no signal is left",
        ),
        (
            {
                "schedule": {"id": "zero-terminal", "config": {"schedule": "linear"}},
                "process": "variance-preserving",
                "parameterization": "epsilon",
            },
            "zero terminal SNR",
        ),
    ],
)
def test_what_cannot_work_together_is_refused(change, message) -> None:
    with pytest.raises(diffkit.SpecError, match=message):
        diffkit.build({**DIGITS, **change}, device="cpu")
