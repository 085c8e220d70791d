"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import nn

from diffkit.core.component import Config, Facts
from diffkit.core.optimizer import Optimizer
from diffkit.errors import ComponentError


class SGD(Optimizer):
    """`m <- momentum m + g`, `w <- w - rate m`; with `nesterov`, `w <- w - rate (g + momentum m)`.

    Sutskever et al. (2013), section 2, with the rate outside of m, as torch has it.

    Args:
        momentum: how much of the last update remains in the next.
        nesterov: looks ahead by one update; it needs momentum.
        weight_decay: how much of each weight is added to its gradient.
    """

    def __init__(
        self,
        *,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
        nesterov: bool = False,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        if nesterov and not momentum:
            raise ComponentError(_NEEDS_MOMENTUM)
        self._momentum, self._nesterov, self._weight_decay = momentum, nesterov, weight_decay

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Nesterov's needs momentum."""
        if config.nesterov and not config.momentum:
            yield _NEEDS_MOMENTUM

    def make(self, named_parameters: Sequence[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """One group, fused."""
        return torch.optim.SGD(
            [weight for _, weight in named_parameters],
            lr=1.0,
            momentum=self._momentum,
            nesterov=self._nesterov,
            weight_decay=self._weight_decay,
            fused=True,
        )


_NEEDS_MOMENTUM = "nesterov is true and momentum 0, so that there is nothing to look ahead with"
