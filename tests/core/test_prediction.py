"""The hub: every form of a prediction from every other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import GaussianPrediction, Target
from diffkit.functional.gaussian import Scales

# Machines differ in speed; a law does not.
settings.register_profile("laws", deadline=None, max_examples=50)
settings.load_profile("laws")


class Flow(Parameterization):
    """Predicts epsilon - x_0."""

    def target(self, scales):
        one = torch.ones_like(scales.alpha)
        return Target(-one, one)


class EDM(Parameterization):
    """Karras et al. (2022), table 1, with data of deviation 1/2, on any Gaussian process."""

    deviation = 0.5

    def _total(self, scales):
        return (scales.sigma.square() + (scales.alpha * self.deviation).square()).sqrt()

    def target(self, scales):
        total = self._total(scales)
        return Target(
            scales.sigma / (self.deviation * total), -scales.alpha * self.deviation / total
        )

    def c_in(self, scales):
        return 1 / self._total(scales)


PARAMETERIZATIONS = [Epsilon(), X0(), Velocity(), Flow(), EDM()]
every_parameterization = pytest.mark.parametrize(
    "parameterization", PARAMETERIZATIONS, ids=lambda p: type(p).__name__
)
# The curves, as functions of the log-SNR.
CURVES = {
    "preserving": lambda snr: Scales(torch.sigmoid(snr).sqrt(), torch.sigmoid(-snr).sqrt()),
    "exploding": lambda snr: Scales(torch.ones_like(snr), torch.exp(-snr / 2)),
    "flow": lambda snr: Scales(torch.sigmoid(snr / 2), torch.sigmoid(-snr / 2)),
}
every_curve = pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())
# The measured accuracy of the hub, about 13 units of the last place.
HUB = 3e-15
log_snrs = st.floats(-20.0, 20.0)
values = st.floats(-3.0, 3.0)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def asked(parameterization, scales, x_0, epsilon):
    """The prediction of a network that gives the exact target."""
    x_0, epsilon = number([[x_0]]), number([[epsilon]])
    target = parameterization.target(scales)
    output = target.on_x_0 * x_0 + target.on_epsilon * epsilon
    return GaussianPrediction(output, scales.alpha * x_0 + scales.sigma * epsilon, target, scales)


@every_curve
@every_parameterization
@given(log_snr=log_snrs, x_0=values, epsilon=values)
def test_both_equations_hold(parameterization, curve, log_snr, x_0, epsilon):
    prediction = asked(parameterization, curve(number(log_snr)), x_0, epsilon)
    alpha, sigma = prediction.scales
    on_x_0, on_epsilon = prediction.target
    determinant = (alpha * on_epsilon - sigma * on_x_0).abs()
    for a, b, result in (
        (alpha, sigma, prediction.x_t),
        (on_x_0, on_epsilon, prediction.output),
    ):
        residual = (a * prediction.x_0 + b * prediction.epsilon - result).abs().item()
        # An error of a rounding in x_0 or epsilon counts with its coefficient; what is lost by
        # the determinant's smallness is the parameterization's, not the arithmetic's.
        size = (a.abs() + b.abs()) * (alpha + sigma) * (on_x_0.abs() + on_epsilon.abs())
        assert residual <= HUB * 3 * max(1.0, (size / determinant).item())


@every_curve
@every_parameterization
@given(log_snr=log_snrs, x_0=values, epsilon=values)
def test_the_truth_comes_back(parameterization, curve, log_snr, x_0, epsilon):
    prediction = asked(parameterization, curve(number(log_snr)), x_0, epsilon)
    alpha, sigma = prediction.scales
    on_x_0, on_epsilon = prediction.target
    determinant = (alpha * on_epsilon - sigma * on_x_0).abs()
    # Rounded inputs determine the truth no better than this, by Cramer's rule.
    inputs = (alpha * abs(x_0) + sigma * abs(epsilon)).item()
    outputs = (on_x_0.abs() * abs(x_0) + on_epsilon.abs() * abs(epsilon)).item()
    for value, truth, a, b in (
        (prediction.x_0, x_0, on_epsilon, sigma),
        (prediction.epsilon, epsilon, on_x_0, alpha),
    ):
        known_to = ((a.abs() * inputs + b.abs() * outputs) / determinant).item()
        # The last term is for numbers so small that float64 has no relative accuracy.
        assert abs(value.item() - truth) <= HUB * max(known_to, abs(truth)) + 1e-300


@every_parameterization
@given(x_0=values, epsilon=values, log_snr=st.floats(-1.0, 1.0))
def test_in_the_middle_the_hub_is_exact_to_rounding(parameterization, x_0, epsilon, log_snr):
    prediction = asked(parameterization, CURVES["preserving"](number(log_snr)), x_0, epsilon)
    alpha, sigma = prediction.scales
    # Between equal amounts of signal and noise no conversion amplifies errors beyond 2, and
    # values are up to 3.
    assert prediction.x_0.item() == pytest.approx(x_0, rel=0, abs=2 * 3 * HUB)
    assert prediction.epsilon.item() == pytest.approx(epsilon, rel=0, abs=2 * 3 * HUB)
    velocity = (alpha * epsilon - sigma * x_0).item()
    assert prediction.velocity.item() == pytest.approx(velocity, rel=0, abs=4 * 3 * HUB)
    score = (-epsilon / sigma).item()
    assert prediction.score.item() == pytest.approx(score, rel=0, abs=4 * 3 * HUB)


@every_parameterization
@pytest.mark.parametrize("other", PARAMETERIZATIONS, ids=lambda p: type(p).__name__)
@given(x_0=values, epsilon=values, log_snr=st.floats(-1.0, 1.0))
def test_converting_there_and_back(parameterization, other, x_0, epsilon, log_snr):
    scales = CURVES["preserving"](number(log_snr))
    first = asked(parameterization, scales, x_0, epsilon)
    target = other.target(scales)
    output = target.on_x_0 * first.x_0 + target.on_epsilon * first.epsilon
    second = GaussianPrediction(output, first.x_t, target, scales)
    assert second.x_0.item() == pytest.approx(first.x_0.item(), rel=0, abs=4 * 3 * HUB)
    assert second.epsilon.item() == pytest.approx(first.epsilon.item(), rel=0, abs=4 * 3 * HUB)


@every_curve
@given(log_snr=st.floats(-5.0, 5.0), x_0=values, epsilon=values)
def test_outputs_are_what_they_are_called(curve, log_snr, x_0, epsilon):
    scales = curve(number(log_snr))
    velocity = (scales.alpha * epsilon - scales.sigma * x_0).item()
    assert asked(Epsilon(), scales, x_0, epsilon).output.item() == epsilon
    assert asked(X0(), scales, x_0, epsilon).output.item() == x_0
    # Values and scales up to 3 and 12.
    assert asked(Velocity(), scales, x_0, epsilon).output.item() == pytest.approx(
        velocity, rel=0, abs=40 * HUB
    )


def test_velocity_needs_no_signal():
    scales = CURVES["preserving"](number(-float("inf")))
    prediction = asked(Velocity(), scales, 0.75, -1.5)
    assert prediction.x_0.item() == 0.75
    assert prediction.epsilon.item() == -1.5


@every_parameterization
@given(x_0=values, epsilon=values, log_snr=st.floats(-5.0, 5.0))
def test_clipping_re_derives_epsilon(parameterization, x_0, epsilon, log_snr):
    before = asked(parameterization, CURVES["preserving"](number(log_snr)), x_0, epsilon)
    after = before.clipped(-1.0, 0.5)
    alpha, sigma = after.scales
    expected = before.x_0.clamp(-1.0, 0.5)
    assert torch.equal(after.x_0, expected)
    # epsilon = (x_t - alpha x_0)/sigma, with sigma at least 0.08 and x_t up to 5.
    derived = (before.x_t - alpha * expected) / sigma
    assert torch.allclose(after.epsilon, derived, rtol=0, atol=1e-13)
    assert torch.equal(after.x_t, before.x_t)


def test_clipping_what_is_inside_changes_nothing():
    before = asked(Epsilon(), CURVES["preserving"](number(1.0)), 0.3, 1.2)
    after = before.clipped(-1.0, 1.0)
    assert torch.equal(after.x_0, before.x_0)
    # One conversion more.
    assert torch.allclose(after.epsilon, before.epsilon, rtol=0, atol=2 * HUB)


def test_clipping_keeps_the_variance_fraction():
    prediction = asked(Epsilon(), CURVES["preserving"](number(1.0)), 0.3, 1.2)
    assert prediction.variance_fraction is None
    placed = prediction.with_variance_fraction(0.3)
    assert placed.variance_fraction == 0.3
    assert placed.clipped(-1.0, 1.0).variance_fraction == 0.3
    assert torch.equal(placed.x_0, prediction.x_0)


@every_parameterization
def test_one_noise_level_a_sample(parameterization):
    scales = CURVES["preserving"](number([-1.0, 2.0]))
    x_0, epsilon = number([[0.5, 1.0], [0.5, 1.0]]), number([[2.0, -1.0], [2.0, -1.0]])
    target = parameterization.target(scales)
    x_t = scales.alpha[:, None] * x_0 + scales.sigma[:, None] * epsilon
    output = target.on_x_0[:, None] * x_0 + target.on_epsilon[:, None] * epsilon
    prediction = GaussianPrediction(output, x_t, target, scales)
    # As in the middle of the range, with values up to 2.
    assert torch.allclose(prediction.x_0, x_0, rtol=0, atol=10 * HUB)
    assert torch.allclose(prediction.epsilon, epsilon, rtol=0, atol=10 * HUB)
    alone = asked(parameterization, CURVES["preserving"](number(2.0)), 0.5, 2.0)
    assert prediction.score[1, 0].item() == pytest.approx(alone.score.item(), rel=1e-13)


def test_epsilon_refuses_zero_terminal_snr():
    assert list(Epsilon.requires(None, {"schedule.zero_terminal_snr": True}))
    assert not list(Epsilon.requires(None, {"schedule.zero_terminal_snr": False}))
    assert not list(Velocity.requires(None, {"schedule.zero_terminal_snr": True}))


def test_edm_asks_for_unit_variance():
    scales = CURVES["exploding"](number(3.0))
    on_x_0, on_epsilon = EDM().target(scales)
    sigma, deviation = scales.sigma, EDM.deviation
    # Under data of deviation 1/2 both the network's input and its target have variance 1.
    c_in = EDM().c_in(scales)
    assert (c_in**2 * (deviation**2 + sigma**2)).item() == pytest.approx(1.0, rel=1e-14)
    assert (on_x_0**2 * deviation**2 + on_epsilon**2).item() == pytest.approx(1.0, rel=1e-14)
