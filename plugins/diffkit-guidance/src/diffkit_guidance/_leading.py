"""What leads away from one prediction and towards another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from diffkit.core.denoiser import DataRange, Denoiser
from diffkit.core.prediction import GaussianPrediction, Prediction
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError

Interval = tuple[float, float]


class Leading(Denoiser):
    """`towards + (scale - 1) (towards - away)`, where the log-SNR is within an interval."""

    def __init__(self, towards: Denoiser, scale: float, interval: Interval | None) -> None:
        self._towards, self._scale, self._interval = towards, scale, interval

    @property
    def process(self) -> GaussianProcess:
        """That of the denoiser which is led."""
        process = self._towards.process
        if not isinstance(process, GaussianProcess):
            raise ComponentError(
                f"guidance adds predictions up, which {type(process).__name__} has no sense for; "
                "it needs a Gaussian process"
            )
        return process

    @property
    def data_range(self) -> DataRange | None:
        """That of the denoiser which is led."""
        return self._towards.data_range

    def __call__(self, x_t: Tensor, t: Time) -> Prediction:
        """The prediction, led."""
        active = self._active(t)
        if self._scale == 1.0 or not bool(active.any()):
            return self._towards(x_t, t)
        towards, away = self._both(x_t, t)
        led = self._led(towards.output, away.output)
        if not bool(active.all()):
            here = active.reshape(-1, *[1] * (led.ndim - 1)).to(led.device)
            led = torch.where(here, led, towards.output)
        return towards.with_output(led)

    @abstractmethod
    def _both(self, x_t: Tensor, t: Time) -> tuple[GaussianPrediction, GaussianPrediction]:
        """Two predictions about one question, of which outputs can be added up."""

    def _led(self, towards: Tensor, away: Tensor) -> Tensor:
        return torch.lerp(away, towards, self._scale)

    def _active(self, t: Time) -> Tensor:
        """Whether to lead, at each of these times; on the host, as times are."""
        if self._interval is None:
            return torch.ones((), dtype=torch.bool)
        low, high = self._interval
        log_snr = self.process.log_snr(t)
        return (log_snr >= low) & (log_snr <= high)

    def start(self, inputs: Mapping[str, Tensor]) -> Self:
        """Its denoisers are made anew for each walk."""
        return self


def gaussian(prediction: Prediction) -> GaussianPrediction:
    """The prediction. Raises ComponentError where it is not Gaussian."""
    if not isinstance(prediction, GaussianPrediction):
        raise ComponentError("guidance: the denoiser gives no Gaussian prediction")
    return prediction
