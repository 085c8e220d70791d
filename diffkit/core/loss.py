"""Loss: what is minimised."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from diffkit.core.component import Component
from diffkit.core.denoiser import Denoiser
from diffkit.core.model import Condition
from diffkit.core.noise import Noise
from diffkit.core.process import ForwardProcess
from diffkit.core.times import DrawnTimes

if TYPE_CHECKING:
    from jaxtyping import Float, Float64


@dataclass(frozen=True, eq=False)
class Batch:
    """Clean data and what comes with each sample."""

    x_0: Tensor
    condition: Condition = field(default_factory=dict)
    """A dataset's, or as the denoiser takes them: prepared by the encoder, some of them dropped."""
    given: Condition = field(default_factory=dict)
    """Those that the process or the loss takes, as the dataset gave them; none is dropped."""

    def __len__(self) -> int:
        return self.x_0.shape[0]


@dataclass(frozen=True, eq=False)
class LossContext:
    """Everything that a loss may look at beside the batch."""

    denoiser: Denoiser
    """The network in training, as a denoiser."""
    process: ForwardProcess
    noise: Noise
    draw_times: Callable[[int], DrawnTimes]
    """Times for so many samples, from the distribution of training times."""
    step: int
    """How many updates have been made."""
    average: Denoiser | None = None
    """The moving average of the network, where one is kept."""


@dataclass(frozen=True, eq=False)
class LossRecord:
    """A loss per sample; it is reduced in one place, by the trainer."""

    values: Float[Tensor, " b"]
    t: Float64[Tensor, " b"]
    """The time of each sample, on the host."""
    terms: Mapping[str, Float[Tensor, " b"]] = field(default_factory=dict)
    """The parts of `values` that are worth logging on their own."""


class Loss(Component):
    """A training objective."""

    kind: ClassVar[str] = "loss"
    process_class: ClassVar[type[ForwardProcess]] = ForwardProcess
    """The class of process that it needs."""

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of a dataset's conditions that it reads itself, in `batch.given`."""
        return ()

    @abstractmethod
    def __call__(self, batch: Batch, context: LossContext) -> LossRecord:
        """The loss of each sample, at times drawn by `context.draw_times`."""
