"""Adam with weight decay that is decoupled from the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import nn

from diffkit.core.optimizer import Optimizer


class AdamW(Optimizer):
    """`w <- (1 - rate decay) w - rate m / (sqrt(v) + eps)`. Loshchilov & Hutter (2019), alg. 2.

    Args:
        betas: of the means of the gradient and of its square.
        weight_decay: times the learning rate, how much of each weight an update takes away.
        eps: added to the root of the mean square.
    """

    def __init__(
        self,
        *,
        betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999),
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        eps: Annotated[float, Gt(0)] = 1e-8,
    ) -> None:
        self._betas, self._weight_decay, self._eps = betas, weight_decay, eps

    def make(self, named_parameters: Sequence[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """One group, fused."""
        return torch.optim.AdamW(
            [weight for _, weight in named_parameters],
            lr=1.0,
            betas=(self._betas[0], self._betas[1]),
            eps=self._eps,
            weight_decay=self._weight_decay,
            fused=True,
        )
