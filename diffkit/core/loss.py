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
from diffkit.errors import ComponentError

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


def _refused(count: int) -> Tensor:
    raise ComponentError("this context was made without draw_uniform; give it")


@dataclass(frozen=True, eq=False)
class LossContext:
    """Everything that a loss may look at beside the batch."""

    denoiser: Denoiser
    """The network in training, as a denoiser."""
    process: ForwardProcess
    noise: Noise
    draw_times: Callable[[int], DrawnTimes]
    """Times for so many samples, `len(batch)`, from the distribution of training times; the same
    ones at each call within an update. Others come of `times.draw(draw_uniform(n), schedule)`."""
    step: int
    """How many updates have been made."""
    average: Denoiser | None = None
    """The first average of the network, where one is kept: for the batch's conditions, and without
    gradients."""
    steps: int = 0
    """How many updates this training makes in all; 0 where nobody knows, as in an own loop."""
    draw_uniform: Callable[[int], Float64[Tensor, " b"]] = _refused
    """Numbers in [0, 1) for so many samples, on the host as times are, and other ones at each call:
    for second times. Random numbers on the device are `noise`'s."""


@dataclass(frozen=True, eq=False)
class LossRecord:
    """A loss per sample; it is reduced in one place, by the trainer."""

    values: Float[Tensor, " b"]
    t: Float64[Tensor, " b"]
    """The time of each sample, on the host."""
    terms: Mapping[str, Float[Tensor, " b"]] = field(default_factory=dict)
    """The parts of `values` that are worth logging on their own."""
    step: int | None = None
    """The number of the update whose randomness was used; whoever drew it says so."""


class Loss(Component):
    """A training objective."""

    kind: ClassVar[str] = "loss"
    process_class: ClassVar[type[ForwardProcess]] = ForwardProcess
    """The class of process that it needs."""
    gives: ClassVar[tuple[str, ...]] = ()
    """The names of the tensors and second times that it tells the network with a question."""
    extras: ClassVar[tuple[str, ...]] = ()
    """The names of the extras that it needs of the network's predictions."""

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of a dataset's conditions that it reads itself, in `batch.given`."""
        return ()

    @abstractmethod
    def __call__(self, batch: Batch, context: LossContext) -> LossRecord:
        """The loss of each sample, at times drawn by `context.draw_times`."""
