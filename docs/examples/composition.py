"""Two conditions at once, each with a weight.

Liu et al. (2022), *Compositional visual generation with composable diffusion models*, eq. 11.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import MinLen

from diffkit.core import (
    Conditioning,
    Denoiser,
    Example,
    Guidance,
    GuidedDenoiser,
    MakeDenoiser,
    joined,
)


class Composition(Guidance):
    """`null + sum_i weight_i (condition_i - null)`, all in one call.

    `condition={"label": 3, "other_label": 5}`, and so for each condition that the network is given.

    Args:
        weights: of the samples' own condition, and of the other one.
        names: of the conditions that there is another one of.
    """

    needs_null = True

    def __init__(
        self,
        *,
        weights: tuple[float, float] = (1.5, 1.5),
        names: Annotated[tuple[str, ...], MinLen(1)] = ("label",),
    ) -> None:
        self._weights, self._others = weights, {f"other_{name}": name for name in names}

    @classmethod
    def examples(cls):
        other = torch.linspace(-1.0, 1.0, 64, dtype=torch.float64).reshape(1, 1, 8, 8)
        return [
            Example(
                {"names": ["mean"]},
                conditions={"other_mean": lambda n: other.expand(n, -1, -1, -1)},
            )
        ]

    @property
    def takes(self):
        return tuple(self._others)

    def guide(self, make_denoiser: MakeDenoiser, conditioning: Conditioning) -> Denoiser:
        other = {name: conditioning.given[key] for key, name in self._others.items()}
        each = (conditioning.condition, conditioning.encoded(other), conditioning.null)
        return _Composed(make_denoiser(joined(*each)), self._weights)


class _Composed(GuidedDenoiser):
    def __init__(self, of_all: Denoiser, weights: tuple[float, float]) -> None:
        super().__init__(of_all, copies=3)
        self._weights = weights

    def combine(self, predictions, x_t, t):
        own, other, null = (prediction.output for prediction in predictions)
        first, second = self._weights
        return predictions[0].with_output(null + first * (own - null) + second * (other - null))
