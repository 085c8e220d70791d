"""Guidance: how a trajectory is led towards its condition."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from diffkit.core.component import Component
from diffkit.core.denoiser import Denoiser
from diffkit.core.encoder import Encoder
from diffkit.core.guided import repeated
from diffkit.core.model import Condition
from diffkit.errors import ComponentError

MakeDenoiser = Callable[[Condition], Denoiser]
"""The denoiser for conditions with one row for each sample that it will be asked about."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The conditions of some samples, on the device, one row a sample."""

    condition: Condition
    """As the network takes them; empty where it takes none."""
    null: Condition = field(default_factory=dict)
    """What stands for no condition, likewise, of those that have such; an encoder's, and what a
    model declares of its own."""
    given: Condition = field(default_factory=dict)
    """As they were given, or prepared by an encoder; with those that guidance takes itself."""
    encoder: Encoder | None = None
    """That encoder."""
    encode: Callable[[Condition], Condition] | None = None
    """What `encoded` asks."""

    def encoded(self, raw: Condition) -> Condition:
        """The conditions as the network takes them, with these raw ones in the place of the
        samples' own: `{"caption": negative}`. One row a sample, or one for all.

        Raises:
            ComponentError: there are no conditions to replace.
            SpecError: the network and its encoder take no such condition.
            DataError: a value is none that the encoder knows.
        """
        if self.encode is None:
            raise ComponentError(
                f"the conditions {', '.join(raw)} cannot be encoded: nobody said how"
            )
        return self.encode(raw)

    def of(self, condition: Condition) -> Conditioning:
        """The same for this condition, of a batch that may hold the samples several times over."""
        own = max((len(value) for value in self.condition.values()), default=0)
        asked = max((len(value) for value in condition.values()), default=0)
        if not own or asked == own:
            return replace(self, condition=condition)
        copies, encode = asked // own, self.encode
        return Conditioning(
            condition,
            repeated(self.null, copies),
            repeated(self.given, copies),
            self.encoder,
            None if encode is None else lambda raw: repeated(encode(raw), copies),
        )


class Guidance(Component):
    """Wraps a denoiser into another denoiser of the same process."""

    kind: ClassVar[str] = "guidance"

    @property
    def gives(self) -> tuple[str, ...]:
        """The names of the tensors and second times that it tells the network with a question."""
        return ()

    @property
    def extras(self) -> tuple[str, ...]:
        """The names of the extras that it needs of the network's predictions."""
        return ()

    @property
    def needs_null(self) -> bool:
        """Whether it asks the network without a condition, which has to have been trained so."""
        return False

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of conditions that it reads itself, whether or not the network takes them."""
        return ()

    @property
    def may_take(self) -> tuple[str, ...]:
        """The names of those that it reads where they are given, as a negative prompt is."""
        return ()

    @abstractmethod
    def guide(self, make_denoiser: MakeDenoiser, conditioning: Conditioning) -> Denoiser:
        """The guided denoiser of samples of this condition.

        `make_denoiser(conditioning.condition)` is the denoiser without guidance, started for the
        trajectory. One batch may hold both conditions in turn, if it is asked about as many
        samples.
        """
