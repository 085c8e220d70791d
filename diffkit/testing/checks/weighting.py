"""The laws of weightings."""

from __future__ import annotations

import torch
from torch import Tensor

from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.core.weighting import Weighting
from diffkit.testing.check import Check, check
from diffkit.testing.checks.common import float64, in_double_precision, plain, relatively
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import require
from diffkit.testing.objectives import parameterizations
from diffkit.testing.reference import UniformLogSNR


def _levels(subject: ComponentUnderTest) -> Tensor:
    """Random log-SNRs, and even ones; float32's exponential ends at 88, float16's at 11."""
    random = torch.rand(200, generator=subject.generator("levels"), dtype=torch.float64)
    return torch.cat([torch.linspace(-30.0, 30.0, 241, dtype=torch.float64), 60 * random - 30])


@check
@torch.no_grad()
def weights_are_finite_and_not_negative(subject: ComponentUnderTest) -> None:
    """The weight is at least 0 and finite from log-SNR -30 to 30, and a number at -inf."""
    weighting: Weighting = subject.make()
    log_snr = _levels(subject)
    weight = weighting.weight(log_snr)
    good = weight.isfinite() & (weight >= 0)
    first = int((~good).double().argmax())
    require(
        bool(good.all()),
        f"the weight at log-SNR {float(log_snr[first]):.4g}",
        measured=float(weight[first]),
        expected="at least 0, and finite",
    )
    noise = float(weighting.weight(float64(-torch.inf))[0])
    require(
        noise >= 0,
        "the weight at log-SNR -inf, where no signal is left",
        measured=noise,
        expected="at least 0, not NaN",
        why="schedules with zero terminal SNR are trained there",
    )


@check
@torch.no_grad()
def some_noise_level_counts(subject: ComponentUnderTest) -> None:
    """The weight is above 0 at some log-SNR between -10 and 10."""
    weight = subject.make().weight(torch.linspace(-10.0, 10.0, 401, dtype=torch.float64))
    require(
        bool((weight > 0).any()), "the largest weight", measured=float(weight.max()), expected="> 0"
    )


@check
@torch.no_grad()
def weights_are_float64_one_a_noise_level(subject: ComponentUnderTest) -> None:
    """The weight of any shape is the weight of each of its numbers, in float64."""
    weighting: Weighting = subject.make()
    log_snr = float64(-8.0, -2.5, -0.5, 0.0, 1.5, 9.0)
    each = torch.stack([weighting.weight(level) for level in log_snr])
    plain("the weight of one number", weighting.weight(log_snr[0]), ())
    for name, levels in (
        ("a vector", log_snr),
        ("a vector of one", log_snr[:1]),
        ("a matrix", log_snr.reshape(2, 3)),
    ):
        weight = weighting.weight(levels)
        plain(f"the weight of {name}", weight, levels.shape)
        why = "a weight depends on its own noise level alone; only rounding may differ"
        wanted = each[: levels.numel()]
        relatively(f"the weights of {name}", weight.flatten(), wanted, 1e-12, why)


@check
@torch.no_grad()
def weights_have_double_precision(subject: ComponentUnderTest) -> None:
    """The weight is computed in float64."""
    in_double_precision("the weight", subject.make().weight(_levels(subject)))


@check
@torch.no_grad()
def weights_of_any_output_are_finite(subject: ComponentUnderTest) -> None:
    """The weight on any network's output is finite and at least 0, also where no signal is left."""
    weighting: Weighting = subject.make()
    process = VariancePreserving(schedule=UniformLogSNR())
    everywhere = _levels(subject)
    for parameterization in parameterizations():
        for log_snr in (everywhere, float64(-torch.inf)):
            scales = process.scales(log_snr)
            target = parameterization.target(scales)
            if not bool((scales.alpha * target.on_epsilon != scales.sigma * target.on_x_0).all()):
                continue  # Nothing follows from such an output, and no network is trained on it.
            weight = weighting.of_output(log_snr, scales, target)
            good = weight.isfinite() & (weight >= 0)
            first = int((~good).double().argmax())
            require(
                bool(good.all()),
                f"the weight on the output at log-SNR {float(log_snr[first]):.4g}, with "
                f"{type(parameterization).__name__}",
                measured=float(weight[first]),
                expected="at least 0, and finite",
                why="a weight that vanishes must not meet a quotient that is infinite there: "
                "`error` may name another error than the one on which it is finite",
            )


CHECKS: tuple[Check, ...] = (
    weights_are_finite_and_not_negative,
    some_noise_level_counts,
    weights_are_float64_one_a_noise_level,
    weights_have_double_precision,
    weights_of_any_output_are_finite,
)
