"""The moving average of a system in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from diffkit.assembly.network import for_training
from diffkit.assembly.system import System
from diffkit.core.denoiser import DataRange, Denoiser, Times
from diffkit.core.model import Condition
from diffkit.core.prediction import Prediction
from diffkit.core.process import ForwardProcess
from diffkit.core.schedule import Time
from diffkit.functional.ema import ema_update


class MovingAverage:
    """Brings an average nearer to what it follows. What is no number to be averaged, such as a
    count or a flag in a buffer, is as in the system itself.
    """

    def __init__(
        self, average: nn.Module, system: nn.Module, local: Callable[[Tensor], Tensor]
    ) -> None:
        pairs = list(zip(_tensors(average), _tensors(system), strict=True))
        averaged = [pair for pair in pairs if _is_a_number(pair[0])]
        copied = [pair for pair in pairs if not _is_a_number(pair[0])]
        self._averages, self._followed = ([local(p[i]) for p in averaged] for i in (0, 1))
        self._copies, self._copied = ([local(p[i]) for p in copied] for i in (0, 1))

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """`average <- decay * average + (1 - decay) * weight`."""
        ema_update(self._averages, self._followed, decay)
        for copy, original in zip(self._copies, self._copied, strict=True):
            copy.copy_(original)


class AverageDenoiser(Denoiser):
    """The average as a denoiser for a batch's conditions, which are encoded when it is asked."""

    def __init__(self, average: System, condition: Condition) -> None:
        self._average, self._condition = average, condition

    @property
    def process(self) -> ForwardProcess:
        return self._average.parts.process

    @property
    def data_range(self) -> DataRange | None:
        return self._average.parts.data_range

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> Prediction:
        return self._denoiser(x_t, t, given=given, times=times)

    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        return self._denoiser.start(inputs)

    @cached_property
    def _denoiser(self) -> Denoiser:
        average = self._average
        network = for_training(average.parts.model, average.precision, average.device)
        return average.denoiser(condition=average.encoded(self._condition), network=network)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _is_a_number(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
