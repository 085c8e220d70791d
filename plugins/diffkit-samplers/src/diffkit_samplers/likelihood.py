"""The log-likelihood of data under a denoiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from diffkit.arguments import instance, number, whole
from diffkit.core.denoiser import Denoiser
from diffkit.core.gaussian_sampler import GaussianPredictor
from diffkit.core.noise import Noise
from diffkit.core.process import GaussianProcess
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import broadcast_right
from diffkit_samplers._flow import LONGEST, Flow, noisiest, scale
from diffkit_samplers._integrate import Tolerance, integrate

if TYPE_CHECKING:
    from jaxtyping import Float

_NAME = "log_likelihood"


def log_likelihood(
    denoiser: Denoiser,
    x_0: Float[Tensor, "b *data"],
    *,
    trace: Literal["hutchinson", "exact"] = "hutchinson",
    noise: Noise | None = None,
    probes: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Float[Tensor, " b"]:
    """`log p(x_0)` of each sample in nats, by the change of variables along the probability flow.

    With `u = x / sqrt(alpha^2 + sigma^2)`, l the log-SNR and `a^2 = sigmoid(l)`,

        log p(u_min) = log p(u_1) + int div(du/dl) dl,   div = a/2 (tr dD/du - a d)

    Song et al. (2021), SDE, eq. 39 and appendix D.2, from the schedule's smallest time to t = 1,
    where the density is the prior's. What is returned is the density of data blurred by the
    noise of the smallest time, `N(0, sigma^2/alpha^2)`, at `x_0`. It is differentiable data that
    the density is of: for images in 256 levels, dequantise them first (add noise, even
    over the width of a level). Predictions are taken before any clipping, with which there is no
    density.

    The solver asks between the times of any grid, and refuses a network that knows multiples of
    1/T only (the fact `steps` of its model, as of `diffusers.unet-2d`).

    Args:
        denoiser: of a Gaussian process with one noise level for all coordinates, whose prior is
            affine in its noise with independent coordinates; it must be differentiable.
        x_0: data, of a floating dtype; float64 where the model allows it.
        trace: `hutchinson` estimates the trace without bias from random signs, one direction a
            probe; `exact` takes one backward pass per coordinate: for few coordinates.
        noise: the randomness of the signs; needed for `hutchinson` and for nothing else.
        probes: how many directions each estimate uses; of `hutchinson` only.
        rtol: the relative error of a step, of u and of the integral.
        atol: the absolute error, likewise; the integral's is in nats.

    Returns:
        Nats, `[b]`, in the dtype of `x_0` but float32 at least; of a density in the data's own
        units. Divided by `-d log 2` they are bits a dimension of that density. Bits of n levels
        between the ends of a range, those of papers and of the metric `bits-per-dim`, are
        `log2((n - 1) / (high - low))` more, the width of a level: log2(127.5) = 6.994 for 256
        levels in [-1, 1].

    Raises:
        ComponentError: an argument is out of range, `x_0` is of integers, the process does not
            fit, the network cannot be asked at every time, it is called in
            `torch.inference_mode()`, torchode is missing (`diffkit-samplers[ode]`), or the solver
            does not reach the end.
    """
    instance(denoiser, "denoiser", Denoiser, "a Denoiser, as Pipeline.system.denoiser gives it")
    instance(x_0, "x_0", Tensor, "a tensor of data, [b, *data]")
    probes = whole(probes, "probes")
    rtol, atol = (
        number(value, name, "a finite number", lambda _: True)
        for name, value in (("rtol", rtol), ("atol", atol))
    )
    if noise is not None:
        instance(noise, "noise", Noise, "a Noise, or None")
    _check(x_0, trace, noise, probes, rtol, atol)
    ask = GaussianPredictor(_NAME, denoiser)
    process, last = ask.process, ask.process.schedule.t_min
    first, end = noisiest(_NAME, process, 1.0, rtol)
    # One and a half steps of any grid is none of its times.
    denoiser.check_times((first, min(1.5 * last, first), last))
    start = process.log_snr(last)
    x = x_0.detach().to(torch.promote_types(x_0.dtype, torch.float32))
    flow = Flow(ask, first, last, x_0.dtype)
    directions = _directions(x, trace, noise, probes)
    growth = _Growth(flow, x.shape, directions, exact=trace == "exact")
    # x_0 stands for the mean of what it becomes: alpha x_0, whose u is a x_0.
    log_a = 0.5 * torch.nn.functional.logsigmoid(start)
    y = torch.cat([(x * torch.exp(log_a)).flatten(1), x.new_zeros(len(x), 1)], dim=1)
    tolerance = Tolerance(_NAME, rtol, atol, LONGEST)
    with torch.no_grad():
        (y,) = integrate(growth, y, float(start), [end], tolerance)
        u = y[:, :-1].reshape(x.shape)
        dimensions = u[0].numel()
        return _log_prior(process, u, end) + y[:, -1] + dimensions * float(log_a)


class _Growth:
    """The derivative of (u, int div dl)."""

    def __init__(
        self, flow: Flow, shape: Sequence[int], directions: Sequence[Tensor], *, exact: bool
    ) -> None:
        self._flow, self._shape, self._directions = flow, shape, directions
        self._share = 1.0 if exact else 1.0 / len(directions)

    def __call__(self, log_snr: Tensor, y: Tensor) -> Tensor:
        u = y[:, :-1].reshape(self._shape)
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            slope = self._flow.slope(log_snr, u)
            divergence = sum(self._along(slope, u, v) for v in self._directions)
        assert isinstance(divergence, Tensor)
        rows = divergence * self._share
        return torch.cat([slope.detach().flatten(1), rows[:, None]], dim=1)

    @staticmethod
    def _along(slope: Tensor, u: Tensor, direction: Tensor) -> Tensor:
        """`v^T (d slope / d u) v` of each sample."""
        (gradient,) = torch.autograd.grad(slope, u, direction, retain_graph=True)
        return (gradient * direction).flatten(1).sum(1)


def _directions(x: Tensor, trace: str, noise: Noise | None, probes: int) -> list[Tensor]:
    if trace == "exact":
        basis = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device)
        return [row.reshape(x.shape[1:]).expand(x.shape) for row in basis]
    assert noise is not None
    drawn = (noise.normal(x.shape).to(x) for _ in range(probes))
    return [torch.where(numbers < 0, -1.0, 1.0).to(x) for numbers in drawn]


class _Constant(Noise):
    """One number everywhere, to learn an affine function of noise."""

    def __init__(self, value: float, like: Tensor) -> None:
        self._value, self._like = value, like

    def normal(self, shape: Sequence[int]) -> Tensor:
        return self._like.new_full(tuple(shape), self._value)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        raise ComponentError(f"{_NAME}: the prior of the process is not a Gaussian")


def _log_prior(process: GaussianProcess, u: Tensor, log_snr: float) -> Tensor:
    """The log-density of u at the noisiest time, taken to be that of the prior."""
    mean = process.prior(u.shape, _Constant(0.0, u))
    deviation = process.prior(u.shape, _Constant(1.0, u)) - mean
    at_1 = process.log_snr(1.0)
    size = broadcast_right(scale(process, at_1), u)
    mean, deviation = mean / size, deviation / size
    standard = (u - mean) / deviation
    each = -0.5 * standard.square() - deviation.log() - 0.5 * math.log(2 * math.pi)
    return each.flatten(1).sum(1)


def _check(
    x_0: Tensor, trace: str, noise: Noise | None, probes: int, rtol: float, atol: float
) -> None:
    if torch.is_inference_mode_enabled():
        raise ComponentError(
            f"{_NAME}: it differentiates the denoiser, which torch.inference_mode() forbids; "
            "call it under torch.no_grad(), or under nothing"
        )
    if not x_0.is_floating_point():
        raise ComponentError(
            f"{_NAME}: x_0 has the dtype {x_0.dtype}, and a density is of continuous data; "
            "dequantise it (add uniform noise of one step's width) and scale it to the data's range"
        )
    if trace not in ("hutchinson", "exact"):
        raise ComponentError(f"{_NAME}: trace is hutchinson or exact, not {trace!r}")
    if trace == "hutchinson" and noise is None:
        raise ComponentError(
            f"{_NAME}: the trace estimate needs noise; give a noise source, or trace='exact'"
        )
    if probes < 1 or not (rtol > 0 and atol > 0):
        raise ComponentError(
            f"{_NAME}: probes must be at least 1, and rtol and atol positive, not {probes}, "
            f"{rtol} and {atol}"
        )
    if trace == "exact" and probes != 1:
        raise ComponentError(
            f"{_NAME}: probes = {probes} would do nothing with trace='exact'; leave it out, or "
            "take trace='hutchinson'"
        )
