"""The laws of what multiplies a loss: importance weights of the time distribution, and
weightings.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from diffkit.core.component import arguments_of
from diffkit.core.loss import Loss
from diffkit.core.weighting import Unweighted, WeightedError, Weighting
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, within
from diffkit.testing.objectives import ROWS, made, trials


@check
def importance_weights_multiply(subject: ComponentUnderTest) -> None:
    """The importance weights of the time distribution multiply the values."""
    for trial in trials(subject):
        error = trial.direction(subject, 0)
        plain = trial.loss_of(made(subject), error).values.detach()
        trial.weight = torch.linspace(0.5, 3.0, ROWS, dtype=torch.float64)
        weighted = trial.loss_of(made(subject), error).values.detach()
        _equal_products(f"values weighted by 0.5 to 3, {trial}", weighted, trial.weight * plain)


@check
def weighting_multiplies_at_the_own_noise_level(subject: ComponentUnderTest) -> None:
    """A loss with a weighting multiplies each value by the weight at the sample's log-SNR."""
    for trial in trials(subject):
        error = trial.direction(subject, 0)
        weighting = _Ramp()
        plain = trial.loss_of(_with_weighting(subject, Unweighted()), error).values.detach()
        weighted = trial.loss_of(_with_weighting(subject, weighting), error).values.detach()
        weight = weighting.weight(trial.process.log_snr(trial.t))
        _equal_products(f"values weighted by a known weighting, {trial}", weighted, weight * plain)


@check
def weighting_is_of_the_error_that_it_names(subject: ComponentUnderTest) -> None:
    """A weighting of the error in x_0 or epsilon is carried over to what the network predicts."""
    for trial in trials(subject):
        error = trial.direction(subject, 0)
        plain = trial.loss_of(_with_weighting(subject, Unweighted()), error).values.detach()
        log_snr = trial.process.log_snr(trial.t)
        scales = trial.process.scales(log_snr)
        target = trial.parameterization.target(scales)
        for weighting in (_RampOfData(), _RampOfNoise()):
            weighted = trial.loss_of(_with_weighting(subject, weighting), error).values.detach()
            weight = weighting.of_output(log_snr, scales, target)
            what = f"values weighted by the error in {weighting.error}, {trial}"
            _equal_products(what, weighted, weight * plain)


WEIGHTS: tuple[Check, ...] = (
    importance_weights_multiply,
    weighting_multiplies_at_the_own_noise_level,
    weighting_is_of_the_error_that_it_names,
)


class _Ramp(Weighting):
    """A weight that tells every log-SNR from every other."""

    def weight(self, log_snr: Tensor) -> Tensor:
        return torch.nn.functional.softplus(0.3 * log_snr) + 0.1


class _RampOfData(_Ramp):
    error: ClassVar[WeightedError] = "x_0"


class _RampOfNoise(_Ramp):
    error: ClassVar[WeightedError] = "epsilon"


def _with_weighting(subject: ComponentUnderTest, weighting: Weighting) -> Loss:
    loss = made(subject)
    arguments = arguments_of(loss)
    names = [name for name, value in arguments.items() if isinstance(value, Weighting)]
    if not names:
        raise NotApplicable("it has no weighting among its arguments")
    changed: Loss = type(loss)(**{**arguments, names[0]: weighting})
    return changed


def _equal_products(what: str, measured: Tensor, expected: Tensor) -> None:
    within(
        what,
        measured / expected.abs().clamp(min=1e-300),
        expected.sign(),
        1e-5,
        "float32 is known to 1e-7, and weights may be cast to it",
    )
