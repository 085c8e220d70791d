"""Several guidances, one around another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, final

from annotated_types import MinLen

from diffkit.core.denoiser import Denoiser
from diffkit.core.guidance import Conditioning, Guidance, MakeDenoiser
from diffkit.core.model import Condition


@final
class InTurn(Guidance):
    """Each guidance leads what the one before it made; the first leads the network itself.

    `{id: in-turn, config: {guidances: [acme.self-conditioning, guidance.classifier-free]}}`

    Args:
        guidances: from the innermost to the outermost.
    """

    def __init__(self, *, guidances: Annotated[tuple[Guidance, ...], MinLen(1)]) -> None:
        self._guidances = guidances

    @property
    def needs_null(self) -> bool:
        """Whether one of them does."""
        return any(guidance.needs_null for guidance in self._guidances)

    @property
    def takes(self) -> tuple[str, ...]:
        """What they take together."""
        return _together(guidance.takes for guidance in self._guidances)

    @property
    def may_take(self) -> tuple[str, ...]:
        """What they may take, and none of them has to."""
        found = _together(guidance.may_take for guidance in self._guidances)
        return tuple(name for name in found if name not in self.takes)

    @property
    def gives(self) -> tuple[str, ...]:
        """What they tell the network together."""
        return _together(guidance.gives for guidance in self._guidances)

    @property
    def extras(self) -> tuple[str, ...]:
        """What they need of its predictions."""
        return _together(guidance.extras for guidance in self._guidances)

    def guide(self, make_denoiser: MakeDenoiser, conditioning: Conditioning) -> Denoiser:
        """The denoiser that the last makes."""
        *inner, outermost = self._guidances
        make = make_denoiser
        for guidance in inner:
            make = _led_by(guidance, make, conditioning)
        return outermost.guide(make, conditioning)


def _led_by(guidance: Guidance, make: MakeDenoiser, conditioning: Conditioning) -> MakeDenoiser:
    def make_led(condition: Condition) -> Denoiser:
        return guidance.guide(make, conditioning.of(condition))

    return make_led


def _together(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for some in names for name in some))
