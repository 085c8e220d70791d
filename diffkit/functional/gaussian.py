"""The algebra of a Gaussian diffusion, from two log-SNRs and without cancellation.

With `x_t = alpha_t x_0 + sigma_t epsilon`, `l = log(alpha^2 / sigma^2)` and `s < t`:

    r              = -expm1(l_t - l_s)                                in (0, 1]
    q(x_t | x_s)   = N( alpha_t/alpha_s x_s,                          sigma_t^2 r )
    q(x_s | x_t, x_0) = N( alpha_s r x_0 + (alpha_t/alpha_s)(sigma_s/sigma_t)^2 x_t,  sigma_s^2 r )

Kingma et al. (2021), appendix A; for the variance-preserving scales these are Ho et al. (2020),
eq. 2, 6 and 7. All arguments are numbers, or float64 tensors that broadcast together.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, overload

from torch import Tensor

from diffkit.functional.coefficients import Coefficient, Number, divide, expm1


class Scales(NamedTuple, Generic[Coefficient]):
    """`alpha` and `sigma` of `x_t = alpha x_0 + sigma epsilon`."""

    alpha: Coefficient
    sigma: Coefficient


class Affine(NamedTuple, Generic[Coefficient]):
    """The mean `x_0 * on_x_0 + x_t * on_x_t` and the variance of a Gaussian."""

    on_x_0: Coefficient
    on_x_t: Coefficient
    variance: Coefficient


@overload
def noise_added(log_snr_t: Tensor, log_snr_s: Tensor) -> Tensor: ...
@overload
def noise_added(log_snr_t: Number, log_snr_s: Number) -> Number: ...
def noise_added(log_snr_t: Number, log_snr_s: Number) -> Number:
    """`r = -expm1(l_t - l_s)`: the share of `sigma_t^2` that the step `s -> t` brought, in (0, 1].

    `s = 0` (log-SNR +inf) gives 1, and so does `t` with log-SNR -inf.
    """
    return -expm1(log_snr_t - log_snr_s)


@overload
def transition(log_snr_t: Tensor, log_snr_s: Tensor, at_t: Scales, at_s: Scales) -> Affine: ...
@overload
def transition(
    log_snr_t: Number, log_snr_s: Number, at_t: Scales[Number], at_s: Scales[Number]
) -> Affine[Number]: ...
def transition(
    log_snr_t: Number, log_snr_s: Number, at_t: Scales[Number], at_s: Scales[Number]
) -> Affine[Number]:
    """`q(x_t | x_s)`: `on_x_t` is the coefficient of the known `x_s`, `on_x_0` is 0."""
    r = noise_added(log_snr_t, log_snr_s)
    return Affine(0.0 * r, divide(at_t.alpha, at_s.alpha), at_t.sigma * at_t.sigma * r)


@overload
def posterior(log_snr_t: Tensor, log_snr_s: Tensor, at_t: Scales, at_s: Scales) -> Affine: ...
@overload
def posterior(
    log_snr_t: Number, log_snr_s: Number, at_t: Scales[Number], at_s: Scales[Number]
) -> Affine[Number]: ...
def posterior(
    log_snr_t: Number, log_snr_s: Number, at_t: Scales[Number], at_s: Scales[Number]
) -> Affine[Number]:
    """`q(x_s | x_t, x_0)`, Ho et al. (2020), eq. 6-7. `s = 0` gives mean `x_0` and variance 0."""
    r = noise_added(log_snr_t, log_snr_s)
    ratio = divide(at_s.sigma, at_t.sigma)
    kept = divide(at_t.alpha, at_s.alpha) * (ratio * ratio)
    return Affine(at_s.alpha * r, kept, at_s.sigma * at_s.sigma * r)


@overload
def largest_variance(
    log_snr_t: Tensor, log_snr_s: Tensor, at_t: Scales, at_s: Scales
) -> Tensor: ...
@overload
def largest_variance(
    log_snr_t: Number, log_snr_s: Number, at_t: Scales[Number], at_s: Scales[Number]
) -> Number: ...
def largest_variance(
    log_snr_t: Number, log_snr_s: Number, at_t: Scales[Number], at_s: Scales[Number]
) -> Number:
    """The upper choice of reverse variance ("fixed large"), for any Gaussian process.

    `sigma_t^2 r (alpha_s^2 + sigma_s^2) / (alpha_t^2 + sigma_t^2)`: exact for unit-variance data.
    For variance-preserving scales it is the step's beta (Ho et al., 2020, section 3.2).
    """
    r = noise_added(log_snr_t, log_snr_s)
    total_s = at_s.alpha * at_s.alpha + at_s.sigma * at_s.sigma
    total_t = at_t.alpha * at_t.alpha + at_t.sigma * at_t.sigma
    return at_t.sigma * at_t.sigma * r * total_s / total_t
