"""Clipping of the predicted data to the range that data can have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from diffkit.core.denoiser import DataRange, Denoiser, Times, WrappedDenoiser
from diffkit.core.model import Condition
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError

if TYPE_CHECKING:
    from jaxtyping import Float


@final
class ClippedDenoiser(WrappedDenoiser):
    """Another denoiser whose predicted `x_0` is clipped to a range; `epsilon` follows from it.

    `x_0 = clip(D(x_t), low, high)`, `epsilon = (x_t - alpha x_0) / sigma`. Ho et al. (2020), in
    their code. Whoever plans a sampling run wraps the guided denoiser in it, once, for all
    samplers. What came before is the prediction's `unclipped`.

    With a quantile q the threshold is dynamic (Saharia et al., 2022, section 2.3): in units in
    which the range is [-1, 1], and s is the q-quantile of a sample's |x_0|, at least 1,

        x_0 = clip(D(x_t), -s, s) / s

    Args:
        denoiser: of a Gaussian process: elsewhere `x_0` may be no data, but logits.
        data_range: the smallest and the largest value.
        quantile: of dynamic thresholding, theirs is 0.995; None: the threshold is the range's end.

    Raises:
        ComponentError: the process is not Gaussian, or, when asked, the prediction.
    """

    def __init__(
        self, denoiser: Denoiser, data_range: DataRange, quantile: float | None = None
    ) -> None:
        if not isinstance(denoiser.process, GaussianProcess):
            raise ComponentError(
                f"clip: {type(denoiser.process).__name__} is no Gaussian process, and its "
                "predictions cannot be clipped; set clip to false"
            )
        super().__init__(denoiser)
        self._range, self._quantile = data_range, quantile

    @property
    def process(self) -> GaussianProcess:
        """That of the denoiser which is clipped."""
        process = self.wrapped.process
        assert isinstance(process, GaussianProcess)
        return process

    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        """The denoiser for one trajectory, clipped."""
        return ClippedDenoiser(self.wrapped.start(inputs), self._range, self._quantile)

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> GaussianPrediction:
        """Its prediction, clipped."""
        prediction = self.wrapped(x_t, t, given=given, times=times)
        if not isinstance(prediction, GaussianPrediction):
            raise ComponentError(
                f"clip: {type(self.wrapped).__name__} gives no Gaussian prediction, which alone "
                "can be clipped; set clip to false"
            )
        if self._quantile is None:
            return prediction.clipped(*self._range)
        return prediction.with_x_0(thresholded(prediction.x_0, self._range, self._quantile))


def thresholded(
    x_0: Float[Tensor, "b *data"], data_range: DataRange, quantile: float
) -> Float[Tensor, "b *data"]:
    """`x_0` clipped to a range of each sample's own, and brought into `data_range`.

    Saharia et al. (2022), section 2.3; quantiles are interpolated linearly.
    """
    low, high = data_range
    middle, half = (low + high) / 2, (high - low) / 2
    scaled = (x_0 - middle) / half
    sizes = scaled.abs().flatten(1).sort(dim=1).values
    place = quantile * (sizes.shape[1] - 1)
    below = int(place)
    above = min(below + 1, sizes.shape[1] - 1)
    threshold = torch.lerp(sizes[:, below], sizes[:, above], place - below).clamp(min=1.0)
    s = threshold.reshape(-1, *[1] * (x_0.ndim - 1))
    return middle + half * (scaled.clamp(-s, s) / s)


@dataclass(frozen=True)
class Clipping:
    """How the predictions of a sampling run are clipped."""

    data_range: DataRange
    quantile: float | None = None
    before_guidance: bool = False
    """Each prediction that guidance combines, in place of what it makes of them."""

    def of(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser, clipped."""
        return ClippedDenoiser(denoiser, self.data_range, self.quantile)
