"""What leads away from one prediction and towards another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diffkit.core.denoiser import Denoiser, Times, WrappedDenoiser
from diffkit.core.model import Condition
from diffkit.core.prediction import GaussianPrediction, Prediction
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError

Interval = tuple[float, float]


def check_interval(name: str, interval: Interval | None) -> None:
    """Raise ComponentError where an interval of the log-SNR is none."""
    if interval is not None and not interval[0] < interval[1]:
        raise ComponentError(
            f"{name}: interval is of the log-SNR, the lower end first, not {list(interval)}; "
            "log-SNR = -2 log sigma, so that the largest sigma is its lower end"
        )


class Led(WrappedDenoiser):
    """A denoiser that is led where the log-SNR is within an interval; nowhere, where it is idle."""

    def __init__(self, plain: Denoiser, interval: Interval | None, *, idle: bool) -> None:
        super().__init__(plain)
        self._interval, self._idle = interval, idle

    @property
    def process(self) -> GaussianProcess:
        """That of the denoiser which is led."""
        process = self.wrapped.process
        if not isinstance(process, GaussianProcess):
            raise ComponentError(
                f"guidance adds predictions up, which {type(process).__name__} has no sense for; "
                "it needs a Gaussian process"
            )
        return process

    @abstractmethod
    def start(self, inputs: Mapping[str, Tensor]) -> Led:
        """The same with every denoiser that it asks started for one trajectory."""

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> Prediction:
        """The prediction, led."""
        active = self._active(t)
        if not bool(active.any()):
            return self.wrapped(x_t, t, given=given, times=times)
        plain, led = self._both(x_t, t, given or {}, times or {})
        if not bool(active.all()):
            here = active.reshape(*active.shape, *[1] * (led.ndim - active.ndim)).to(led.device)
            led = torch.where(here, led, plain.output)
        return plain.with_output(led)

    @abstractmethod
    def _both(
        self, x_t: Tensor, t: Time, given: Condition, times: Times
    ) -> tuple[GaussianPrediction, Tensor]:
        """The prediction that is led, and the output in its terms once it is."""

    def _active(self, t: Time) -> Tensor:
        """Whether to lead, at each of these times; on the host, as times are."""
        if self._interval is None or self._idle:
            return torch.tensor(not self._idle)
        low, high = self._interval
        log_snr = self.process.log_snr(t)
        return (log_snr >= low) & (log_snr <= high)


def gaussian(prediction: Prediction) -> GaussianPrediction:
    """The prediction. Raises ComponentError where it is not Gaussian."""
    if not isinstance(prediction, GaussianPrediction):
        raise ComponentError("guidance: the denoiser gives no Gaussian prediction")
    return prediction


def kept(folder: Path, file: str) -> tuple[Path, int]:
    """What tells a folder's file from others and from what was there before, to remember it by."""
    try:
        return folder.resolve(), (folder / file).stat().st_mtime_ns
    except OSError:
        return folder.resolve(), 0
