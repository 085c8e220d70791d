"""The cosine schedule of improved DDPM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from diffkit.core.example import Example
from diffkit.core.schedule import DiscreteSchedule
from diffkit.functional.betas import cosine_betas

if TYPE_CHECKING:
    from jaxtyping import Float64


class Cosine(DiscreteSchedule):
    """`alpha_bar` follows a squared cosine, so that information is lost at an even pace.

    `alpha_bar(t) = f(t)/f(0)`, `f(t) = cos^2((t + s)/(1 + s) pi/2)`, with the betas clipped at
    `largest_beta`. Nichol & Dhariwal (2021), eq. 17.

    Args:
        steps: T, the number of noise levels, a million at most.
        offset: s, which keeps the first betas from vanishing.
        largest_beta: where betas are clipped, in (0, 1); at T = 1000 this touches the last only.
    """

    def __init__(
        self,
        *,
        steps: Annotated[int, Ge(1), Le(1_000_000)] = 1000,
        offset: Annotated[float, Ge(0)] = 0.008,
        largest_beta: Annotated[float, Gt(0), Lt(1)] = 0.999,
    ) -> None:
        self._steps, self._offset, self._largest = steps, offset, largest_beta

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """Two lengths."""
        return [Example(), Example({"steps": 10})]

    @property
    def betas(self) -> Float64[Tensor, " steps"]:
        """`beta_k`, k = 1..T."""
        return cosine_betas(self._steps, self._offset, self._largest)
