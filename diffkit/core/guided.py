"""GuidedDenoiser: a denoiser made of what others say."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor

from diffkit.core.denoiser import Denoiser, Times, WrappedDenoiser
from diffkit.core.model import Condition
from diffkit.core.prediction import Prediction
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError


class GuidedDenoiser(WrappedDenoiser):
    """A denoiser that combines what one or several others say; a subclass writes `combine` alone.

        GuidedDenoiser(inner)              asks `inner` once
        GuidedDenoiser(inner, other)       asks each once
        GuidedDenoiser(inner, copies=2)    asks `inner` once, about the batch twice over: that of
                                           `make_denoiser(joined(with_it, without))`

    Process, data range, `given`, `times` and `start` are handed on; what `combine` makes keeps the
    extras of the first prediction unless it has its own. `combine` may ask `self.wrapped` again, at
    another point or time. A subclass that remembers something in a trajectory makes that in
    `start`, of the copy that this one's gives.

    Args:
        denoisers: at least one; the first is the one that is guided.
        copies: how often the batch is in what the first is asked about.
    """

    def __init__(self, *denoisers: Denoiser, copies: int = 1) -> None:
        if not denoisers:
            raise ComponentError(f"{type(self).__name__}: it guides a denoiser; give one")
        super().__init__(denoisers[0])
        self.others = denoisers[1:]
        self.copies = copies

    @abstractmethod
    def combine(self, predictions: Sequence[Prediction], x_t: Tensor, t: Time) -> Prediction:
        """The guided prediction at `x_t`, from that of each copy, then those of each other one."""

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> Prediction:
        """What `combine` makes of what each says."""
        predictions = [
            *said_of_copies(self.wrapped, self.copies, x_t, t, given=given, times=times),
            *(other(x_t, t, given=given, times=times) for other in self.others),
        ]
        found = self.combine(predictions, x_t, t)
        first = predictions[0].extras
        return found if found.extras or not first else found.with_extras(first)

    def start(self, inputs: Mapping[str, Tensor]) -> Self:
        """A copy of this around what each of the denoisers gives for one trajectory."""
        found = copy.copy(self)
        found.wrapped = self.wrapped.start(repeated(inputs, self.copies))
        found.others = tuple(other.start(inputs) for other in self.others)
        return found

    def check_times(self, times: Sequence[float]) -> None:
        """Raise ComponentError where one of the denoisers does."""
        for denoiser in (self.wrapped, *self.others):
            denoiser.check_times(times)


def said_of_copies(
    denoiser: Denoiser,
    copies: int,
    x_t: Tensor,
    t: Time,
    *,
    given: Condition | None = None,
    times: Times | None = None,
) -> Sequence[Prediction]:
    """What a denoiser of a batch that holds each sample so many times says of each copy, in one
    call.
    """
    if copies == 1:
        return (denoiser(x_t, t, given=given, times=times),)
    prediction = denoiser(
        torch.cat([x_t] * copies),
        _often(t, copies),
        given=repeated(given or {}, copies),
        times={name: _often(r, copies) for name, r in (times or {}).items()},
    )
    return prediction.chunk(copies)


def joined(*conditions: Condition) -> dict[str, Tensor]:
    """Conditions of the same names one after another: those of a batch that holds each in turn.

    Raises ComponentError where they are not of the same names.
    """
    names = conditions[0].keys()
    if any(condition.keys() != names for condition in conditions):
        found = [", ".join(condition) or "none" for condition in conditions]
        raise ComponentError(f"conditions of one batch have the same names, not {found}")
    return {name: torch.cat([condition[name] for condition in conditions]) for name in names}


def repeated(tensors: Mapping[str, Tensor], copies: int) -> dict[str, Tensor]:
    """Tensors of a batch for one that holds it so many times."""
    return {name: torch.cat([value] * copies) for name, value in tensors.items()}


def _often(t: Time, copies: int) -> Time:
    return torch.cat([t] * copies) if isinstance(t, Tensor) and t.ndim else t
