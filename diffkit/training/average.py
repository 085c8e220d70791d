"""The averages of a system in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from diffkit.assembly.network import for_training
from diffkit.assembly.system import System
from diffkit.assembly.training import TrainingComponents
from diffkit.core.average import Average
from diffkit.core.denoiser import DataRange, Denoiser, Times
from diffkit.core.model import Condition
from diffkit.core.prediction import Prediction
from diffkit.core.process import ForwardProcess
from diffkit.core.schedule import Time


class Followers:
    """Has averages follow the weights in training. What is no number to be averaged, such as a
    count or a flag in a buffer, is as in the system itself.
    """

    def __init__(
        self,
        components: TrainingComponents,
        averages: Mapping[str, nn.Module],
        system: nn.Module,
        local: Callable[[Tensor], Tensor],
    ) -> None:
        self._all = _tensors(system)
        self._weights = [local(tensor) for tensor in _tensors(system) if _is_a_number(tensor)]
        copied = [tensor for tensor in _tensors(system) if not _is_a_number(tensor)]
        self._copied = [local(tensor) for tensor in copied]
        self._followers: list[tuple[Average, dict[str, list[Tensor]]]] = []
        self._copies: list[list[Tensor]] = []
        tracks = components.tracks()
        for name, component in components.averages.items():
            held = {}
            for full, (own, track) in tracks.items():
                if own == name:
                    tensors = _tensors(averages[full])
                    held[track] = [local(tensor) for tensor in tensors if _is_a_number(tensor)]
                    self._copies.append([local(t) for t in tensors if not _is_a_number(t)])
            self._followers.append((component, held))

    def follow(self, system: nn.Module) -> bool:
        """Whether these are the tensors that a system holds, and not ones that it held."""
        now, then = _tensors(system), self._all
        return len(now) == len(then) and all(a is b for a, b in zip(now, then, strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After update number `step` of the weights."""
        for component, held in self._followers:
            component.update(held, self._weights, step)
        for copies in self._copies:
            for copy, original in zip(copies, self._copied, strict=True):
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
