"""The bundled weightings, as their papers have them."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.bundled.losses.simple import Simple
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.weightings.edm import EDM
from diffkit.bundled.weightings.min_snr import MinSNR
from diffkit.bundled.weightings.p2 import P2

PROCESS = VariancePreserving(schedule=Linear())
SNR = torch.tensor([1e-4, 0.2, 1.0, 4.9, 5.1, 80.0, 1e4], dtype=torch.float64)


def on(weighting, parameterization) -> torch.Tensor:
    log_snr = SNR.log()
    scales = PROCESS.scales(log_snr)
    return weighting.of_output(log_snr, scales, parameterization.target(scales))


def same(found, expected) -> None:
    assert torch.allclose(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_is_that_of_hang_et_al_section_3_4(gamma) -> None:
    weighting, least = MinSNR(gamma=gamma), SNR.clamp(max=gamma)
    same(on(weighting, X0()), least)
    same(on(weighting, Epsilon()), least / SNR)
    same(on(weighting, Velocity()), least / (SNR + 1))


def test_min_snr_takes_five_by_default() -> None:
    same(on(MinSNR(), X0()), SNR.clamp(max=5.0))


@pytest.mark.parametrize(("gamma", "k"), [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (1.0, 3.0)])
def test_p2_is_that_of_choi_et_al_eq_8(gamma, k) -> None:
    # Their lambda_t makes the bound the simple loss: lambda' / lambda = 1 / (k + SNR)^gamma.
    same(on(P2(gamma=gamma, k=k), Epsilon()), 1 / (k + SNR) ** gamma)
    same(on(P2(gamma=gamma, k=k), X0()), SNR / (k + SNR) ** gamma)


def test_p2_takes_one_and_one_by_default() -> None:
    same(on(P2(), Epsilon()), 1 / (1 + SNR))


@pytest.mark.parametrize("data", [0.5, 1.0])
def test_edm_is_that_of_karras_et_al_table_1(data) -> None:
    sigma = SNR**-0.5
    expected = (sigma**2 + data**2) / (sigma * data) ** 2
    same(on(EDM(sigma_data=data), X0()), expected)
    same(on(EDM(sigma_data=data), Epsilon()), expected * sigma**2)


def test_edm_takes_a_half_by_default() -> None:
    same(on(EDM(), X0()), SNR + 4.0)


@pytest.mark.parametrize("name", ["min-snr", "p2", "edm"])
@pytest.mark.parametrize("parameterization", ["epsilon", "x_0", "velocity"])
def test_a_pipeline_trains_with_it(name, parameterization) -> None:
    pipeline = diffkit.build(
        {
            "schedule": {"id": "cosine", "config": {"steps": 20}},
            "process": "variance-preserving",
            "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
            "loss": {"id": "simple", "config": {"weighting": name}},
            "parameterization": parameterization,
            "sampler": "ddpm",
            "dataset": "digits",
            "training": {"batch_size": 8},
        },
        device="cpu",
    )
    assert isinstance(pipeline.parts.loss, Simple)
    pipeline.train(steps=2, progress=False)
    assert all(bool(weight.isfinite().all()) for weight in pipeline.system.parameters())
