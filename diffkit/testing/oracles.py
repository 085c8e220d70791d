"""Denoisers and networks that are exactly right, for data whose posterior mean is known.

A sampler or a loss tested with them is tested without training: what it gets wrong is its own.
All arithmetic is float64; give float64 inputs where its accuracy matters. Whatever the noise
level, nothing is subtracted that cancels: the posterior mean is a positive combination of what
is seen and what is known. At t = 0, where no network is ever asked, `output` is right, but the
conversions of a prediction divide by sigma = 0: read `output` there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diffkit.core.denoiser import Denoiser, Times
from diffkit.core.model import Condition, EpsilonModel
from diffkit.core.parameterization import TIME_SCALE, Parameterization
from diffkit.core.prediction import GaussianPrediction, Target
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import broadcast_right
from diffkit.functional.gaussian import Scales
from diffkit.testing.laws import NotChecked

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

Numbers = Tensor | Sequence[float] | Sequence[Sequence[float]] | float


class ExactGaussian(Denoiser):
    """The exact denoiser of data that are `N(mean, covariance)`.

    In the eigenbasis of the covariance, coordinate by coordinate, with eigenvalue v:

        E[x_0 | x_t] = (sigma^2 mean + alpha v x_t) / (alpha^2 v + sigma^2)

    Bishop (2006), eq. 2.116. Under these data x_t is `N(alpha mean, alpha^2 C + sigma^2 I)`.

    Args:
        process: the process whose noisy samples it takes.
        mean: of the data, `[d]` for the flattened sample, or one number for all coordinates.
        covariance: `[d, d]`, symmetric and not negative; or one number, the variance of
            independent coordinates. Eigenvalues may be 0.

    Raises:
        ComponentError: the sizes do not fit, or the covariance is not a covariance.
    """

    def __init__(
        self, process: GaussianProcess, mean: Numbers = 0.0, covariance: Numbers = 1.0
    ) -> None:
        self._process = process
        self._mean, matrix = _float64(mean), _float64(covariance)
        if matrix.ndim not in (0, 2) or (matrix.ndim == 2 and matrix.shape[0] != matrix.shape[1]):
            raise ComponentError(
                "ExactGaussian: covariance must be one number or a square matrix, not of the "
                f"shape {tuple(matrix.shape)}"
            )
        self._variances, self._basis = _eigenbasis(matrix)

    @property
    def process(self) -> GaussianProcess:
        """The process whose noisy samples it takes."""
        return self._process

    def __call__(
        self,
        x_t: Float[Tensor, "b *data"],
        t: Time,
        *,
        given: Condition | None = None,
        times: Times | None = None,
    ) -> GaussianPrediction:
        """`E[x_0 | x_t]` as a prediction of x_0, in the dtype of `x_t`."""
        scales, alpha, sigma = _scales(self._process, t, x_t)
        seen = _flat(x_t)
        mean = self._mean.to(seen.device).expand(seen.shape)
        if self._basis is None:
            return _exact(_mean_given(seen, mean, self._variances, alpha, sigma), x_t, scales)
        basis, variances = self._basis.to(seen.device), self._variances.to(seen.device)
        inside = _mean_given(seen @ basis, mean @ basis, variances, alpha, sigma)
        return _exact(inside @ basis.T, x_t, scales)


class ExactMixture(Denoiser):
    """The exact denoiser of data that are a mixture of isotropic Gaussians.

        E[x_0 | x_t] = sum_k p(k | x_t) (sigma^2 m_k + alpha v_k x_t) / (alpha^2 v_k + sigma^2)
        p(k | x_t)  ~  w_k N(x_t; alpha m_k, alpha^2 v_k + sigma^2)

    Variances of 0 make it a set of points, and the denoiser that of a memorised dataset.

    Args:
        process: the process whose noisy samples it takes.
        means: `[k, d]`, for the flattened sample.
        variances: `[k]`, or one number for all; at least 0.
        weights: `[k]`, positive; they are normalised. None: all alike.

    Raises:
        ComponentError: the sizes do not fit, or a variance or weight is out of range.
    """

    def __init__(
        self,
        process: GaussianProcess,
        means: Numbers,
        variances: Numbers,
        weights: Numbers | None = None,
    ) -> None:
        self._process = process
        self._means = _float64(means)
        if self._means.ndim != 2:
            raise ComponentError(
                f"ExactMixture: means must be [k, d], not of the shape {tuple(self._means.shape)}"
            )
        count = self._means.shape[0]
        self._variances = _one_each("variances", variances, count)
        self._weights = _one_each("weights", 1.0 if weights is None else weights, count)
        if bool((self._variances < 0).any()) or bool((self._weights <= 0).any()):
            raise ComponentError(
                "ExactMixture: variances must be at least 0 and weights positive, not "
                f"{self._variances.tolist()} and {self._weights.tolist()}"
            )
        self._weights = self._weights / self._weights.sum()

    @property
    def process(self) -> GaussianProcess:
        """The process whose noisy samples it takes."""
        return self._process

    def __call__(
        self,
        x_t: Float[Tensor, "b *data"],
        t: Time,
        *,
        given: Condition | None = None,
        times: Times | None = None,
    ) -> GaussianPrediction:
        """`E[x_0 | x_t]` as a prediction of x_0, in the dtype of `x_t`."""
        scales, alpha, sigma = _scales(self._process, t, x_t)
        seen = _flat(x_t)
        if seen.shape[1] != self._means.shape[1]:
            raise ComponentError(
                f"ExactMixture: a sample has {seen.shape[1]} numbers, and the means have "
                f"{self._means.shape[1]}"
            )
        clean = sigma == 0
        if bool(clean.all()):
            return _exact(seen / alpha, x_t, scales)
        # Samples without noise are answered apart; meanwhile any positive sigma will do.
        mixed = self._mix(seen, alpha, torch.where(clean, 1.0, sigma))
        known = seen / torch.where(clean, alpha, 1.0)
        return _exact(torch.where(clean, known, mixed), x_t, scales)

    def _mix(self, seen: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        means = self._means.to(seen.device)
        variances = self._variances.to(seen.device)
        total = alpha.square() * variances + sigma.square()
        apart = (seen[:, None] - alpha[..., None] * means).square().sum(-1)
        log_weights = self._weights.to(seen.device).log()
        logits = log_weights - 0.5 * (means.shape[1] * total.log() + apart / total)
        share = torch.softmax(logits, dim=1)
        on_mean = share * sigma.square() / total
        on_seen = (share * alpha * variances / total).sum(1, keepdim=True)
        return on_mean @ means + on_seen * seen


class OracleModel(EpsilonModel):
    """An exact denoiser as a network: it answers in a parameterization, as if trained to.

    It undoes `c_in` and reads the trained time from `c_noise = 1000 t`, so it tests all that
    stands between a network and a sampler. Networks are told `c_noise` in float32: times off the
    grid come with a relative error of 6e-8.

    Args:
        denoiser: the exact denoiser, of the process that the network was "trained" under.
        parameterization: what it outputs; its `c_noise` must be `1000 t`.
    """

    def __init__(self, *, denoiser: Denoiser, parameterization: Parameterization) -> None:
        super().__init__()
        self._denoiser = denoiser
        self._parameterization = parameterization

    def forward(
        self, x: Float[Tensor, "b *data"], c_noise: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b *data"]:
        """`A x_0 + B epsilon` at `t = c_noise / 1000`, exact. It takes no conditions."""
        t = c_noise.to("cpu", torch.float64) / TIME_SCALE
        process = self._denoiser.process
        assert isinstance(process, GaussianProcess)
        log_snr = process.log_snr(t)
        scales = process.scales(log_snr)
        told = self._parameterization.c_noise(t, log_snr)
        if not torch.equal(told, TIME_SCALE * t):
            raise ComponentError(
                f"OracleModel: {type(self._parameterization).__name__} tells networks something "
                "else than 1000 t, from which the time cannot be read"
            )
        x_t = x.double() / _per_row(self._parameterization.c_in(scales), x)
        exact = self._denoiser(x_t, t)
        assert isinstance(exact, GaussianPrediction)
        on_x_0, on_epsilon = (_per_row(c, x) for c in self._parameterization.target(scales))
        return (on_x_0 * exact.x_0 + on_epsilon * exact.epsilon).to(x.dtype)


class _Known(NamedTuple):
    scales: Scales
    alpha: Float64[Tensor, "..."]
    sigma: Float64[Tensor, "..."]


def _float64(numbers: Numbers) -> Tensor:
    return torch.as_tensor(numbers, dtype=torch.float64)


def _one_each(name: str, numbers: Numbers, count: int) -> Tensor:
    values = _float64(numbers)
    if values.ndim and values.shape != (count,):
        raise ComponentError(
            f"ExactMixture: {name} must be one number or {count}, one a component, not of the "
            f"shape {tuple(values.shape)}"
        )
    return values.expand(count)


def _eigenbasis(matrix: Tensor) -> tuple[Tensor, Tensor | None]:
    """Eigenvalues and eigenvectors; no eigenvectors for a multiple of the identity."""
    variances, basis = (matrix, None) if matrix.ndim == 0 else torch.linalg.eigh(matrix)
    size = float(variances.abs().max())
    symmetric = matrix.ndim == 0 or torch.allclose(matrix, matrix.T, rtol=0, atol=1e-12 * size)
    # Eigenvalues of 0 come out as rounding errors of either sign.
    if not symmetric or float(variances.min()) < -1e-12 * size:
        raise ComponentError("ExactGaussian: covariance must be symmetric and not negative")
    return torch.where(variances < 1e-15 * size, 0.0, variances), basis


def _scales(process: GaussianProcess, t: Time, x_t: Tensor) -> _Known:
    scales = process.scales(process.log_snr(t))
    if isinstance(t, Tensor) and t.ndim > 1:
        raise NotChecked("it asks with a time for each token, of which no exact answer is known")
    if scales.alpha.ndim > 1:
        raise ComponentError("exact denoisers need one noise level a sample, not one a coordinate")
    alpha, sigma = (c.to(x_t.device).reshape(-1, 1) for c in scales)
    return _Known(scales, alpha, sigma)


def _flat(x_t: Tensor) -> Tensor:
    return x_t.double().flatten(1)


def _mean_given(
    seen: Tensor, mean: Tensor, variances: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    total = alpha.square() * variances + sigma.square()
    # Neither data variance nor noise: the coordinate is its mean.
    nothing = total == 0
    total = torch.where(nothing, 1.0, total)
    on_mean = torch.where(nothing, 1.0, sigma.square() / total)
    return on_mean * mean + alpha * variances / total * seen


def _exact(x_0: Tensor, x_t: Tensor, scales: Scales) -> GaussianPrediction:
    one = torch.ones_like(scales.alpha)
    output = x_0.reshape(x_t.shape).to(x_t.dtype)
    return GaussianPrediction(output, x_t, Target(one, torch.zeros_like(one)), scales)


def _per_row(coefficient: Tensor, x: Tensor) -> Tensor:
    shaped = broadcast_right(coefficient, x.double())
    assert isinstance(shaped, Tensor)
    return shaped
