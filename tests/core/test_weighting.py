"""A weighting of the error in x_0 or epsilon is the same loss, whatever a network predicts."""

from __future__ import annotations

import pytest
import torch

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.weightings.edm import EDM
from diffkit.bundled.weightings.min_snr import MinSNR
from diffkit.bundled.weightings.p2 import P2
from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import GaussianPrediction, Target
from diffkit.core.weighting import Unweighted, Weighting
from diffkit.errors import ComponentError
from diffkit.testing.reference import UniformLogSNR

LEVELS = torch.linspace(-12.0, 12.0, 49, dtype=torch.float64)
NOTHING_LEFT = torch.tensor([-torch.inf], dtype=torch.float64)
PROCESSES = [
    process(schedule=UniformLogSNR())
    for process in (VariancePreserving, VarianceExploding, RectifiedFlow)
]
WEIGHTINGS = [MinSNR(), MinSNR(gamma=1.0), P2(), P2(gamma=0.5, k=2.0), EDM(), EDM(sigma_data=1.5)]


class Flow(Parameterization):
    """epsilon - x_0."""

    def target(self, scales):
        one = torch.ones_like(scales.alpha)
        return Target(-one, one)


class Preconditioned(Parameterization):
    """`(x_0 - c_skip x)/c_out` at `x = x_0 + s epsilon`, Karras et al. (2022), table 1."""

    def __init__(self, *, sigma_data: float = 0.5) -> None:
        self._sigma_data = sigma_data

    def target(self, scales):
        s, data = scales.sigma / scales.alpha, self._sigma_data
        c_skip = data**2 / (s**2 + data**2)
        c_out = s * data / (s**2 + data**2).sqrt()
        return Target((1 - c_skip) / c_out, -c_skip * s / c_out)


class OfData(Weighting):
    error = "x_0"

    def weight(self, log_snr):
        return torch.ones_like(log_snr)


class OfNoise(OfData):
    error = "epsilon"


PARAMETERIZATIONS = [Epsilon(), X0(), Velocity(), Flow(), Preconditioned()]
every_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)


def ratios(process, parameterization, log_snr=LEVELS):
    """Squared errors of x_0 and of epsilon by that of the output, measured by moving the output."""
    scales = process.scales(log_snr)
    target = parameterization.target(scales)
    x_0, epsilon = torch.full_like(log_snr, 0.3), torch.full_like(log_snr, -0.8)
    x_t = scales.alpha * x_0 + scales.sigma * epsilon
    output = target.on_x_0 * x_0 + target.on_epsilon * epsilon
    shift = output.abs() + 1.0
    moved = GaussianPrediction(output + shift, x_t, target, scales)
    return ((moved.x_0 - x_0) / shift) ** 2, ((moved.epsilon - epsilon) / shift) ** 2


def of_output(weighting, process, parameterization, log_snr=LEVELS):
    scales = process.scales(log_snr)
    return weighting.of_output(log_snr, scales, parameterization.target(scales))


@every_process
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=lambda p: type(p).__name__)
def test_the_error_is_carried_over_as_predictions_are(process, parameterization) -> None:
    # Differences of predictions, which cancel: known to 1e-9 from log-SNR -12 to 12.
    by_x_0, by_epsilon = ratios(process, parameterization)
    for weighting, expected in ((OfData(), by_x_0), (OfNoise(), by_epsilon)):
        found = of_output(weighting, process, parameterization)
        assert torch.allclose(found, expected, rtol=1e-8, atol=0)


@every_process
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda w: type(w).__name__)
def test_the_same_loss_in_x_0_whatever_is_predicted(process, weighting) -> None:
    scales = process.scales(LEVELS)
    weights = []
    for parameterization in PARAMETERIZATIONS:
        on_x_0, on_epsilon = parameterization.target(scales)
        # error_x_0^2 = error_output^2 (sigma / (alpha B - sigma A))^2.
        share = (scales.sigma / (scales.alpha * on_epsilon - scales.sigma * on_x_0)) ** 2
        weights.append(of_output(weighting, process, parameterization) / share)
    snr = torch.exp(LEVELS)
    own = weighting.weight(LEVELS)
    expected = own if weighting.error == "x_0" else own * snr
    for weight in weights:
        assert torch.allclose(weight, expected, rtol=1e-12, atol=0)


def test_a_weight_of_the_output_is_as_it_is() -> None:
    for parameterization in PARAMETERIZATIONS:
        found = of_output(Unweighted(), PROCESSES[0], parameterization)
        assert torch.equal(found, torch.ones_like(LEVELS))


def test_a_weight_of_what_is_predicted_is_exactly_itself() -> None:
    for process in PROCESSES:
        assert torch.equal(of_output(OfNoise(), process, Epsilon()), torch.ones_like(LEVELS))
        assert torch.equal(of_output(OfData(), process, X0()), torch.ones_like(LEVELS))
    # Also where the quotient would be 0 by 0.
    assert of_output(OfNoise(), PROCESSES[0], Epsilon(), NOTHING_LEFT).tolist() == [1.0]


@pytest.mark.parametrize(
    ("weighting", "velocity", "x_0"), [(MinSNR(), 0.0, 0.0), (P2(), 0.0, 0.0), (EDM(), 4.0, 4.0)]
)
def test_where_no_signal_is_left(weighting, velocity, x_0) -> None:
    process = PROCESSES[0]
    assert of_output(weighting, process, Velocity(), NOTHING_LEFT).tolist() == [velocity]
    assert of_output(weighting, process, X0(), NOTHING_LEFT).tolist() == [x_0]


@every_process
def test_the_output_of_an_edm_network_counts_one_at_every_level(process) -> None:
    for sigma_data in (0.5, 1.3):
        parameterization = Preconditioned(sigma_data=sigma_data)
        weight = of_output(EDM(sigma_data=sigma_data), process, parameterization)
        assert torch.allclose(weight, torch.ones_like(weight), rtol=1e-12, atol=0)


def test_gradients_pass_to_a_learned_log_snr() -> None:
    process = PROCESSES[0]
    for parameterization in (Epsilon(), X0(), Velocity()):
        log_snr = LEVELS.clone().requires_grad_()
        for weighting in (OfData(), OfNoise(), MinSNR()):
            of_output(weighting, process, parameterization, log_snr).sum().backward()
        assert log_snr.grad.isfinite().all()


def test_an_error_that_there_is_not_is_named() -> None:
    class Score(OfData):
        error = "score"

    with pytest.raises(ComponentError, match=r"'output', 'x_0' or 'epsilon', not 'score'"):
        of_output(Score(), PROCESSES[0], Velocity())
