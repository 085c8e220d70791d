"""The laws of parameterizations."""

from __future__ import annotations

import torch
from torch import Tensor

from diffkit.bundled.schedules.linear import Linear
from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import GaussianPrediction
from diffkit.functional.coefficients import broadcast_right
from diffkit.functional.gaussian import Scales
from diffkit.testing.check import Check, check
from diffkit.testing.checks.common import float64, plain
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import require, within
from diffkit.testing.reference import UniformLogSNR


def _curves(log_snr: Tensor) -> dict[str, Scales]:
    """The scales with these log-SNRs on three curves."""
    return {
        "variance preserving": Scales(
            torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
        ),
        "variance exploding": Scales(torch.ones_like(log_snr), torch.exp(-log_snr / 2)),
        "rectified flow": Scales(torch.sigmoid(log_snr / 2), torch.sigmoid(-log_snr / 2)),
    }


@check
def the_output_determines_data_and_noise(subject: ComponentUnderTest) -> None:
    """The output is another combination of x_0 and epsilon than x_t is, at every noise level."""
    parameterization: Parameterization = subject.make()
    log_snr = torch.linspace(-20.0, 20.0, 801, dtype=torch.float64)
    for curve, scales in _curves(log_snr).items():
        alpha, sigma = scales
        on_x_0, on_epsilon = parameterization.target(scales)
        sizes = (on_x_0.square() + on_epsilon.square()) * (alpha.square() + sigma.square())
        sine = (alpha * on_epsilon - sigma * on_x_0) / sizes.sqrt()
        # The worse of predicting x_0 and predicting epsilon, with room.
        least = 1e-3 * torch.minimum(alpha, sigma) / (alpha.square() + sigma.square()).sqrt()
        margin = (sine.abs() / least).nan_to_num(nan=0.0)
        worst = int(margin.argmin())
        where = f"at log-SNR {float(log_snr[worst]):.4g}, {curve}"
        require(
            float(margin[worst]) >= 1.0,
            f"the sine between (A, B) and (alpha, sigma) {where}",
            measured=f"{float(sine[worst]):.3g}",
            expected=f"at least {float(least[worst]):.3g} in size",
            why="where alpha B = sigma A, the output says nothing that x_t does not",
        )
        signs = sine.sign()
        turn = int((signs != signs[0]).double().argmax())
        require(
            bool((signs == signs[0]).all()),
            f"alpha B - sigma A near log-SNR {float(log_snr[turn]):.4g}, {curve}",
            measured="a change of sign",
            expected="one sign for all noise levels",
            why="between two signs it is 0, and the output says nothing that x_t does not",
        )


@check
def data_and_noise_come_back(subject: ComponentUnderTest) -> None:
    """From the exact output and x_t follow x_0 and epsilon."""
    parameterization: Parameterization = subject.make()
    log_snr = torch.linspace(-6.0, 6.0, 97, dtype=torch.float64)
    generator = subject.generator("data")
    x_0, epsilon = (torch.randn(97, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    for curve, scales in _curves(log_snr).items():
        target = parameterization.target(scales)
        alpha, sigma, on_x_0, on_epsilon = (broadcast_right(c, x_0) for c in (*scales, *target))
        output = on_x_0 * x_0 + on_epsilon * epsilon
        found = GaussianPrediction(output, alpha * x_0 + sigma * epsilon, target, scales)
        why = (
            "between log-SNR -6 and 6 one of alpha and sigma is at least a twentieth of the "
            "other, so rounding grows to 1e-13 at most"
        )
        within(f"x_0, {curve}", found.x_0, x_0, 1e-9, why)
        within(f"epsilon, {curve}", found.epsilon, epsilon, 1e-9, why)


@check
def the_target_is_continuous(subject: ComponentUnderTest) -> None:
    """The target does not jump from one meaning to another between noise levels."""
    parameterization: Parameterization = subject.make()
    log_snr = torch.linspace(-15.0, 15.0, 6001, dtype=torch.float64)
    for curve, scales in _curves(log_snr).items():
        target = torch.stack(list(parameterization.target(scales)))
        size = target.square().sum(0).sqrt()
        moved = target.diff().square().sum(0).sqrt() / torch.maximum(size[1:], size[:-1])
        worst = int(moved.nan_to_num(nan=torch.inf).argmax())
        require(
            bool(moved[worst] <= 0.05),
            f"the relative change of (A, B) over 0.005 of log-SNR at "
            f"{float(log_snr[worst]):.4g}, {curve}",
            measured=f"{float(moved[worst]):.3g}",
            expected="0.05 at most",
            why="scales change by 0.0025 over it, and a network cannot follow a jump",
        )


@check
def coefficients_are_float64_one_a_noise_level(subject: ComponentUnderTest) -> None:
    """The target, c_in and c_noise are float64, in the shape of what they are given."""
    parameterization: Parameterization = subject.make()
    levels = float64(-5.0, -1.0, 0.5, 4.0)
    together = _coefficients(parameterization, levels)
    for name, values in together.items():
        plain(name, values, levels.shape)
    for row, level in enumerate(levels):
        for name, value in _coefficients(parameterization, level).items():
            plain(f"{name} of one noise level", value, ())
            size = 1e-12 * max(1.0, float(value.abs()))
            why = "kernels for vectors and for single numbers differ by rounding"
            within(f"{name} of a vector and of a number", together[name][row], value, size, why)


@check
def network_inputs_are_finite(subject: ComponentUnderTest) -> None:
    """Where a network is asked, c_in is positive and finite, and c_noise finite."""
    parameterization: Parameterization = subject.make()
    log_snr = torch.linspace(-20.0, 20.0, 401, dtype=torch.float64)
    for curve, scales in _curves(log_snr).items():
        c_in = parameterization.c_in(scales)
        good = c_in.isfinite() & (c_in > 0)
        first = int((~good).double().argmax())
        require(
            bool(good.all()),
            f"c_in at log-SNR {float(log_snr[first]):.4g}, {curve}",
            measured=float(c_in[first]),
            expected="above 0 and finite",
        )
    for schedule in (Linear(), UniformLogSNR()):
        t = torch.linspace(schedule.t_min, 1.0, 1000, dtype=torch.float64)
        c_noise = parameterization.c_noise(t, schedule.log_snr(t)).float()
        require(
            bool(c_noise.isfinite().all()),
            "c_noise in float32",
            measured=f"{int((~c_noise.isfinite()).sum())} of 1,000 that are not finite",
            expected="all finite",
        )


@check
def noise_levels_can_be_told_apart(subject: ComponentUnderTest) -> None:
    """The noise input c_noise grows or falls strictly with t, in the float32 that networks get."""
    parameterization: Parameterization = subject.make()
    for schedule in (Linear(), UniformLogSNR()):
        # Not on the grid of 1000, on which rounded times would pass.
        t = torch.linspace(schedule.t_min, 1.0, 2345, dtype=torch.float64)
        c_noise = parameterization.c_noise(t, schedule.log_snr(t)).float()
        steps = c_noise.diff().sign()
        require(
            bool((steps == steps[0]).all()) and bool(steps[0] != 0),
            f"c_noise at 2,345 even times of {type(schedule).__name__}",
            measured=f"{int((steps > 0).sum())} rises, {int((steps < 0).sum())} falls, "
            f"{int((steps == 0).sum())} standing still",
            expected="rises alone, or falls alone",
            why="a network that cannot tell two noise levels apart gives both one answer",
        )


def _coefficients(parameterization: Parameterization, log_snr: Tensor) -> dict[str, Tensor]:
    scales = _curves(log_snr)["variance preserving"]
    on_x_0, on_epsilon = parameterization.target(scales)
    c_noise = parameterization.c_noise(torch.sigmoid(-log_snr), log_snr)
    return {
        "A": on_x_0,
        "B": on_epsilon,
        "c_in": parameterization.c_in(scales),
        "c_noise": c_noise,
    }


CHECKS: tuple[Check, ...] = (
    the_output_determines_data_and_noise,
    data_and_noise_come_back,
    the_target_is_continuous,
    coefficients_are_float64_one_a_noise_level,
    network_inputs_are_finite,
    noise_levels_can_be_told_apart,
)
