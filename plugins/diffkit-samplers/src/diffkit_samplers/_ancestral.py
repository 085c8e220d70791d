"""The step of a Gaussian chain with any share of the posterior's noise."""

from __future__ import annotations

from torch import Tensor

from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import Level
from diffkit.functional.coefficients import axpby, expm1, sqrt
from diffkit_samplers._levels import predicted_step


def ancestral_step(
    prediction: GaussianPrediction,
    at_t: Level,
    at_s: Level,
    eta: float,
    noise: Noise,
) -> Tensor:
    """`x_s = alpha_s x_0 + sqrt(sigma_s^2 - d^2) epsilon + d z`, `d = eta sigma_s sqrt(r)`.

    `d^2` is eta^2 times the variance of `q(x_s | x_t, x_0)`. Song et al. (2021), DDIM, eq. 12 and
    16. No noise is drawn at s = 0 or for eta = 0.
    """
    if eta == 0.0 or at_s == 0.0:
        return predicted_step(prediction, at_t, at_s)
    r = -expm1(at_t.log_snr - at_s.log_snr)
    kept = at_s.sigma * sqrt(1 - eta**2 * r)
    # Written with x_t: epsilon = (x_t - alpha_t x_0) / sigma_t.
    on_x_0 = at_s.alpha - at_t.alpha * kept / at_t.sigma
    mean = prediction.affine(on_x_0, kept / at_t.sigma)
    return axpby(1.0, mean, eta * at_s.sigma * sqrt(r), noise.normal(prediction.x_t.shape))
