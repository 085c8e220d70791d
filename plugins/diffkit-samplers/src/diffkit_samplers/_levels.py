"""Noise levels, and the steps between two of them that several samplers share.

With `x_t = alpha_t x_0 + sigma_t epsilon`, `lambda = log(alpha / sigma)` (half the log-SNR) and
`h = lambda_s - lambda_t > 0`, the probability-flow ODE has the exact solution

    x_s = (sigma_s / sigma_t) x_t + alpha_s int_0^h exp(tau - h) D(lambda_t + tau) dtau

where D is the predicted `x_0` along the path. Lu et al. (2022), DPM-Solver++, proposition 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import Level
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import Number, axpby, exp, expm1

if TYPE_CHECKING:
    from jaxtyping import Float


def single(name: str, at: Level) -> float:
    """The lambda as one number. Raises ComponentError where it differs between coordinates."""
    if isinstance(at.lambda_, Tensor) and at.lambda_.ndim:
        raise ComponentError(
            f"{name}: it needs one noise level for all coordinates, and the process has one for "
            "each; use 'samplers.ddim' or 'samplers.dpmpp-2m'"
        )
    return float(at.lambda_)


def data_step(
    x_t: Float[Tensor, "b *data"], x_0: Float[Tensor, "b *data"], at_t: Level, at_s: Level
) -> Float[Tensor, "b *data"]:
    """The exact solution for a constant `D = x_0`: `sigma_s/sigma_t x_t - alpha_s expm1(-h) x_0`.

    It is DDIM's step with eta = 0 (Song et al., 2021, eq. 12), and right at s = 0, where it gives
    `x_0`, and where no signal is left at t.
    """
    on_x_t, on_x_0 = step_weights(at_t, at_s)
    return axpby(on_x_t, x_t, on_x_0, x_0)


def step_weights(at_t: Level, at_s: Level) -> tuple[Number, Number]:
    """What multiplies `x_t` and `x_0` in `data_step`."""
    return at_s.sigma / at_t.sigma, -at_s.alpha * expm1(at_t.lambda_ - at_s.lambda_)


def predicted_step(
    prediction: GaussianPrediction, at_t: Level, at_s: Level
) -> Float[Tensor, "b *data"]:
    """`data_step` from where the prediction was made."""
    on_x_t, on_x_0 = step_weights(at_t, at_s)
    return prediction.affine(on_x_0, on_x_t)


def noise_correction(
    x_s: Float[Tensor, "b *data"],
    change: Float[Tensor, "b *data"],
    at_t: Level,
    at_s: Level,
) -> Float[Tensor, "b *data"]:
    """`x_s` of `data_step`, had the step been taken along `epsilon + change`.

    In the variable `x / alpha` the step is `(sigma_s/alpha_s - sigma_t/alpha_t) epsilon`, so
    `x_s` moves by `(sigma_s - alpha_s exp(-lambda_t)) change`. There must be signal at t.
    """
    return axpby(1.0, x_s, at_s.sigma - at_s.alpha * exp(-at_t.lambda_), change)


def path_weights(offsets: Sequence[float], h: float) -> list[float]:
    """Weights w with `int_0^h exp(tau - h) P(tau) dtau = sum_j w_j P(tau_j)`, exact for every
    polynomial P of a degree below the number of nodes `tau_j = offsets[j]`.

    They turn values of D at a few lambdas into a step. Lu et al. (2022), DPM-Solver++, section 4.
    """
    nodes = torch.tensor(offsets, dtype=torch.float64) / h
    powers = torch.arange(len(offsets), dtype=torch.float64)
    moments = torch.tensor([_moment(k, h) for k in range(len(offsets))], dtype=torch.float64)
    weights: list[float] = torch.linalg.solve(nodes ** powers[:, None], moments).tolist()
    return weights


def weighted(
    values: Sequence[Float[Tensor, "b *data"]], weights: Sequence[float]
) -> Float[Tensor, "b *data"]:
    """`sum_j weights[j] values[j]`."""
    terms = [value * weight for value, weight in zip(values, weights, strict=True)]
    return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]


def _moment(k: int, h: float) -> float:
    """`int_0^h exp(tau - h) (tau/h)^k dtau`, without cancellation for small h."""
    if h < 1.0:
        # Repeated integration by parts, upwards: sum_n (-h)^n k! / (n + k + 1)! h.
        term, total = h / (k + 1), 0.0
        for n in range(20):
            total += term
            term *= -h / (n + k + 2)
        return total
    value = -math.expm1(-h)
    for j in range(1, k + 1):
        value = 1.0 - j * value / h
    return value
