"""Clipping of the predicted data to the range that data can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from torch import Tensor

from diffkit.core.denoiser import DataRange, Denoiser, Times, WrappedDenoiser
from diffkit.core.model import Condition
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError


@final
class ClippedDenoiser(WrappedDenoiser):
    """Another denoiser whose predicted `x_0` is clipped to a range; `epsilon` follows from it.

    `x_0 = clip(D(x_t), low, high)`, `epsilon = (x_t - alpha x_0) / sigma`. Ho et al. (2020), in
    their code. Whoever plans a sampling run wraps the guided denoiser in it, once, for all
    samplers. What came before is the prediction's `unclipped`.

    Args:
        denoiser: of a Gaussian process: elsewhere `x_0` may be no data, but logits.
        data_range: the smallest and the largest value.

    Raises:
        ComponentError: the process is not Gaussian, or, when asked, the prediction.
    """

    def __init__(self, denoiser: Denoiser, data_range: DataRange) -> None:
        if not isinstance(denoiser.process, GaussianProcess):
            raise ComponentError(
                f"clip: {type(denoiser.process).__name__} is no Gaussian process, and its "
                "predictions cannot be clipped; set clip to false"
            )
        super().__init__(denoiser)
        self._range = data_range

    @property
    def process(self) -> GaussianProcess:
        """That of the denoiser which is clipped."""
        process = self.wrapped.process
        assert isinstance(process, GaussianProcess)
        return process

    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        """The denoiser for one trajectory, clipped."""
        return ClippedDenoiser(self.wrapped.start(inputs), self._range)

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
        return prediction.clipped(*self._range)
