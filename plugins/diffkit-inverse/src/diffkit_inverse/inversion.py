"""Images as noise and back: DDIM inversion, and interpolation between two noises."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.process import GaussianProcess
from diffkit.errors import ComponentError
from diffkit_inverse._checks import gaussian, predicted

if TYPE_CHECKING:
    from jaxtyping import Float

_NAME = "inverse.inversion"


def invert(
    denoiser: Denoiser, x_0: Float[Tensor, "b *data"], times: Sequence[float]
) -> Float[Tensor, "b *data"]:
    """The noise at `times[0]` from which the probability flow leads to `x_0`.

        x_t = alpha_t x_0(x_s, s) + sigma_t epsilon(x_s, s)

    for each step up from s to t. Song et al. (2021), DDIM, eq. 12 and section 4.3. The trajectory
    back over the same times returns to `x_0` but for an error of first order in the steps.

    Args:
        denoiser: of a Gaussian process. Predictions are taken before any clipping, with which
            the way back would be another than the way there.
        x_0: the data, `[b, *data]`, which are not written to.
        times: those of a trajectory, falling. Where the last is 0, at which no network can be
            asked, it is asked at the one before instead, about `alpha_t x_0`.

    Raises:
        ComponentError: the times do not fall within [0, 1], or are of noise levels that were
            never trained; or the process is not Gaussian.
    """
    process = _checked(denoiser, times)
    rising = list(reversed(times))
    x = x_0
    with torch.no_grad():
        if rising[0] == 0.0:
            first = rising[1]
            # What is asked about is the middle of the noised data: their noise is not known yet.
            seen = process.diffuse(x, first, torch.zeros_like(x))
            epsilon = predicted(_NAME, denoiser, seen, first).unclipped.epsilon
            x, rising = process.diffuse(x, first, epsilon), rising[1:]
        for s, t in pairwise(rising):
            x = _moved(process, denoiser, x, s, t)
    return x


def follow(
    denoiser: Denoiser, x: Float[Tensor, "b *data"], times: Sequence[float]
) -> Float[Tensor, "b *data"]:
    """Where the probability flow leads from `x` at `times[0]`, in DDIM's steps.

    `x_s = alpha_s x_0(x_t, t) + sigma_s epsilon(x_t, t)`. Song et al. (2021), DDIM, eq. 12, eta 0.
    Raises ComponentError as `invert` does.
    """
    process = _checked(denoiser, times)
    with torch.no_grad():
        for t, s in pairwise(times):
            x = _moved(process, denoiser, x, t, s)
    return x


def slerp(
    x: Float[Tensor, "b *data"], y: Float[Tensor, "b *data"], weight: float
) -> Float[Tensor, "b *data"]:
    """The point at `weight` on the arc from `x` (0) to `y` (1), sample by sample.

        (sin((1 - w) theta) x + sin(w theta) y) / sin(theta),  cos(theta) = x.y / (|x| |y|)

    Song et al. (2021), DDIM, appendix D.5. Where both point the same way it is the chord.
    """
    a, b = x.double().flatten(1), y.double().flatten(1)
    size = (a.norm(dim=1, keepdim=True) * b.norm(dim=1, keepdim=True)).clamp_min(1e-300)
    theta = ((a * b).sum(1, keepdim=True) / size).clamp(-1.0, 1.0).acos()
    straight = theta.sin() < 1e-6
    whole = torch.where(straight, 1.0, theta.sin())
    on_a = torch.where(straight, 1.0 - weight, ((1.0 - weight) * theta).sin() / whole)
    on_b = torch.where(straight, weight, (weight * theta).sin() / whole)
    return (on_a * a + on_b * b).reshape(x.shape).to(x.dtype)


def interpolate(
    denoiser: Denoiser,
    a: Float[Tensor, "b *data"],
    b: Float[Tensor, "b *data"],
    times: Sequence[float],
    frames: int,
) -> Float[Tensor, "f b *data"]:
    """`frames` data on the way from `a` to `b`: both are inverted, and the arc between the noises
    is followed back. The first and the last are `a` and `b` as inversion returns them.

    Raises:
        ComponentError: there are fewer than 2 frames, the shapes differ, or as `invert`.
    """
    start, end = invert(denoiser, a, times), invert(denoiser, b, times)
    noises = torch.cat(arc(start, end, frames))
    return follow(denoiser, noises, times).reshape(frames, *a.shape)


def arc(
    start: Float[Tensor, "b *data"], end: Float[Tensor, "b *data"], frames: int
) -> list[Float[Tensor, "b *data"]]:
    """`frames` points, evenly on the arc between two noises, both ends included.

    Raises ComponentError where there are fewer than 2, or the shapes differ.
    """
    if frames < 2:
        raise ComponentError(f"interpolate: frames = {frames} is not allowed; it is at least 2")
    if start.shape != end.shape:
        raise ComponentError(
            f"interpolate: the two have the shapes {list(start.shape)} and {list(end.shape)}; "
            "they must be the same"
        )
    return [slerp(start, end, i / (frames - 1)) for i in range(frames)]


def _moved(
    process: GaussianProcess, denoiser: Denoiser, x: Tensor, here: float, there: float
) -> Tensor:
    """DDIM's step, which leads up as well as down."""
    prediction = predicted(_NAME, denoiser, x, here).unclipped
    return process.diffuse(prediction.x_0, there, prediction.epsilon)


def _checked(denoiser: Denoiser, times: Sequence[float]) -> GaussianProcess:
    falls = all(s < t for t, s in pairwise(times))
    if len(times) < 2 or not falls or times[0] > 1.0 or times[-1] < 0.0:
        raise ComponentError(
            f"{_NAME}: the times of a trajectory fall from at most 1 to at least 0, in one step or "
            f"more; given: {[round(t, 6) for t in times[:5]]}{'...' if len(times) > 5 else ''}"
        )
    denoiser.check_times(times)
    return gaussian(_NAME, denoiser)
