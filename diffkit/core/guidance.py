"""Guidance: how a trajectory is led towards its condition."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from diffkit.core.component import Component
from diffkit.core.denoiser import Denoiser
from diffkit.core.encoder import Encoder
from diffkit.core.model import Condition

MakeDenoiser = Callable[[Condition], Denoiser]
"""The denoiser for conditions with one row for each sample that it will be asked about."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The conditions of some samples, on the device, one row a sample."""

    condition: Condition
    """As the network takes them; empty where it takes none."""
    null: Condition = field(default_factory=dict)
    """What stands for no condition, likewise; empty where there is no encoder."""
    given: Condition = field(default_factory=dict)
    """As they were given, or prepared by an encoder."""
    encoder: Encoder | None = None
    """That encoder."""


class Guidance(Component):
    """Wraps a denoiser into another denoiser of the same process."""

    kind: ClassVar[str] = "guidance"
    needs_null: ClassVar[bool] = False
    """Whether it asks the network without a condition, which has to have been trained so."""
    takes: ClassVar[tuple[str, ...]] = ()
    """The names of conditions that it reads itself, whether or not the network takes them."""
    gives: ClassVar[tuple[str, ...]] = ()
    """The names of the tensors and second times that it tells the network with a question."""
    extras: ClassVar[tuple[str, ...]] = ()
    """The names of the extras that it needs of the network's predictions."""

    @abstractmethod
    def guide(self, make_denoiser: MakeDenoiser, conditioning: Conditioning) -> Denoiser:
        """The guided denoiser of samples of this condition.

        `make_denoiser(conditioning.condition)` is the denoiser without guidance, started for the
        trajectory. One
        batch may hold both conditions in turn, if it is asked about as many samples.
        """
