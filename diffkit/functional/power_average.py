"""Power-function averages of weights, and others made of them. Karras et al. (2024), EDM2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def gamma_of_length(length: float) -> float:
    """The exponent of the average whose relative width is `length`, `0 < length < 12^-1/2`.

    `length^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))`; appendix C.1, eq. 126 and algorithm 2.
    """
    inverse = length**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(roots.real.max())


def power_decay(step: int, gamma: float) -> float:
    """`(1 - 1/t)^(gamma + 1)` at update `t = step + 1`: eq. 127. 0 at the first."""
    return float((1.0 - 1.0 / (step + 1)) ** (gamma + 1.0))


def post_hoc_weights(
    steps: Sequence[int], gammas: Sequence[float], step: int, gamma: float
) -> list[float]:
    """How much of each average makes the one of exponent `gamma` at `step`, in least squares.

    `steps` and `gammas` are those of the averages that there are. Appendix C.3, algorithm 3: the
    profile of each is `t^gamma` up to its step, and `A x = b` with their inner products.
    """
    t, g = np.array(steps, np.float64), np.array(gammas, np.float64)
    inner = _inner_products(t[:, None], g[:, None], t[None], g[None])
    with_target = _inner_products(t, g, np.array(float(step)), np.array(gamma))
    found, *_ = np.linalg.lstsq(inner, with_target, rcond=1e-14)
    return [float(weight) for weight in found]


def _inner_products(
    t_a: np.ndarray, gamma_a: np.ndarray, t_b: np.ndarray, gamma_b: np.ndarray
) -> np.ndarray:
    """Eq. 150, of profiles that each have the integral 1."""
    exponent = np.where(t_a < t_b, gamma_b, -gamma_a)
    ratio = (t_a / t_b) ** exponent
    above = (gamma_a + 1.0) * (gamma_b + 1.0) * ratio
    return np.asarray(above / ((gamma_a + gamma_b + 1.0) * np.maximum(t_a, t_b)))
