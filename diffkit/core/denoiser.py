"""Denoiser: predicts clean data from a noisy sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.core.model import Condition, Network
from diffkit.core.parameterization import TIME_SCALE
from diffkit.core.prediction import Prediction
from diffkit.core.process import ForwardProcess
from diffkit.core.schedule import Time, as_time
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import Number

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

DataRange = tuple[float, float]


class Denoiser(ABC):
    """Predicts the data behind a noisy sample of the process it exposes.

    Guidance wraps a denoiser into a denoiser. State that lives for one trajectory only is made by
    `start` and nowhere else.
    """

    @property
    @abstractmethod
    def process(self) -> ForwardProcess:
        """The process whose noisy samples this denoiser takes."""

    @property
    def data_range(self) -> DataRange | None:
        """The smallest and largest value that data can have, where that is declared."""
        return None

    @abstractmethod
    def __call__(self, x_t: Tensor, t: Time) -> Prediction:
        """The prediction at `x_t`; `t` is a host number, or a host tensor `[b]`."""

    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        """The denoiser for one trajectory. What wraps a denoiser wraps what that one's `start`
        gives.
        """
        return self

    def check_times(self, times: Sequence[float]) -> None:
        """Raise ComponentError where a trajectory over these times asks what was never trained.

        Called before anything is computed. What wraps a denoiser asks that one.
        """
        return


class WrappedDenoiser(Denoiser):
    """A denoiser around another, with that one's process, range and trained times.

    Around several, as guidance is, it goes by the first; `start` then starts each of them.
    """

    def __init__(self, wrapped: Denoiser) -> None:
        self.wrapped = wrapped

    @property
    def process(self) -> ForwardProcess:
        """That of the denoiser within."""
        return self.wrapped.process

    @property
    def data_range(self) -> DataRange | None:
        """That of the denoiser within."""
        return self.wrapped.data_range

    def check_times(self, times: Sequence[float]) -> None:
        """Raise ComponentError where the denoiser within does."""
        self.wrapped.check_times(times)

    @abstractmethod
    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        """The same around what the denoiser within gives for one trajectory."""


class ModelDenoiser(Denoiser):
    """A network seen through its own process, which need not be Gaussian."""

    def __init__(
        self,
        model: Network,
        process: ForwardProcess,
        *,
        condition: Condition | None = None,
        data_range: DataRange | None = None,
    ) -> None:
        self._model = model
        self._process = process
        self._condition = dict(condition or {})
        self._data_range = data_range

    @property
    def process(self) -> ForwardProcess:
        return self._process

    @property
    def data_range(self) -> DataRange | None:
        return self._data_range

    def __call__(self, x_t: Tensor, t: Time) -> Prediction:
        output = self._model(x_t, per_sample(TIME_SCALE * as_time(t), x_t), self._condition)
        if not isinstance(output, Tensor):
            raise ComponentError(f"model: it gives a {type(output).__name__}, and not a tensor")
        return self._process.interpret(output, x_t, t)


def per_sample(value: Number, x_t: Shaped[Tensor, "b *data"]) -> Float[Tensor, " b"]:
    """A host value as float32 on the device of `x_t`, one a sample."""
    if isinstance(value, float) or value.ndim == 0:
        return torch.full((x_t.shape[0],), float(value), device=x_t.device)
    return value.to(device=x_t.device, dtype=torch.float32, non_blocking=True)
