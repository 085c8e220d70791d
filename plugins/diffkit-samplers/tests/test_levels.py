"""The arithmetic of one step."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import quad

from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit_samplers._levels import data_step, noise_correction, path_weights
from diffkit_samplers.plms import _ADAMS_BASHFORTH

from .samplers_problems import CURVES, LogLinear


@pytest.mark.parametrize("h", [1e-6, 1e-3, 0.1, 0.99, 1.01, 3.0, 20.0])
@pytest.mark.parametrize(
    "shares", [[0.0], [0.0, -1.0], [0.0, -0.3], [0.0, -1.2, -2.0], [1.0, 0.0, -1.0, -1.7]]
)
def test_path_weights_are_exact_for_polynomials(h, shares):
    weights = path_weights([share * h for share in shares], h)
    for degree in range(len(shares)):
        # In u = tau / h, so that numbers stay near 1.
        known, _ = quad(
            lambda u, k=degree: h * torch.exp(torch.tensor(h * (u - 1))).item() * u**k, 0, 1
        )
        found = sum(w * share**degree for w, share in zip(weights, shares, strict=True))
        # Quadrature and the solution of four equations in float64.
        assert found == pytest.approx(known, rel=1e-6 if h < 1 else 1e-5)


@pytest.mark.parametrize("curve", CURVES)
def test_a_step_is_exact_where_the_prediction_is(curve):
    process = curve(schedule=LogLinear())
    x_0 = torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    epsilon = torch.tensor([[1.1, 0.4]], dtype=torch.float64)
    for t, s in ((1.0, 0.7), (0.7, 0.699), (0.2, 0.0)):
        ends = process.level(t), process.level(s)
        found = data_step(process.diffuse(x_0, t, epsilon), x_0, *ends)
        # A handful of products of numbers near 1, or of sigma = 20 for exploding variance.
        assert torch.allclose(found, process.diffuse(x_0, s, epsilon), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("curve", CURVES)
def test_a_changed_epsilon_is_a_changed_prediction(curve):
    process = curve(schedule=LogLinear())
    x_t, x_0, change = torch.randn(
        3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    at_t, at_s = process.level(0.6), process.level(0.5)
    moved = noise_correction(data_step(x_t, x_0, at_t, at_s), change, at_t, at_s)
    # x_t = alpha x_0 + sigma epsilon stays, so x_0 moves by -sigma/alpha times the change.
    other = data_step(x_t, x_0 - change * at_t.sigma / at_t.alpha, at_t, at_s)
    assert torch.allclose(moved, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize("rule", _ADAMS_BASHFORTH)
def test_multistep_rules_are_exact_for_polynomials(rule):
    for degree in range(len(rule)):
        found = sum(weight * (-j) ** degree for j, weight in enumerate(rule))
        # The mean of u^k over the next step; fractions in float64.
        assert found == pytest.approx(1 / (degree + 1), rel=1e-13)


def test_zero_changes_nothing():
    process = VariancePreserving(schedule=LogLinear())
    at_t, at_s = process.level(0.6), process.level(0.5)
    x = torch.ones(1, 1, dtype=torch.float64)
    assert torch.equal(noise_correction(x, torch.zeros_like(x), at_t, at_s), x)
