"""The sigmoid schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from diffkit.core.schedule import DiscreteSchedule
from diffkit.errors import ComponentError
from diffkit.functional.betas import sigmoid_betas

if TYPE_CHECKING:
    from jaxtyping import Float64


class Sigmoid(DiscreteSchedule):
    """`alpha_bar` follows a piece of a sigmoid, so that neither end takes many of the steps.

    `alpha_bar(t) = (v(1) - v(t))/(v(1) - v(0))`, `v(t) = sigmoid((first + t (last - first))/tau)`,
    with the betas clipped at `largest_beta`. Jabri et al. (2022); Chen (2023), "On the importance
    of noise scheduling for diffusion models", where the curve is said to suit larger images.

    Args:
        steps: T, the number of noise levels, a million at most.
        first: where the piece begins.
        last: where it ends, above `first`.
        tau: how much the sigmoid is stretched, above 0.
        largest_beta: where betas are clipped, in (0, 1); at T = 1000 this touches the last only.

    Raises:
        ComponentError: last is not above first.
    """

    def __init__(
        self,
        *,
        steps: Annotated[int, Ge(1), Le(1_000_000)] = 1000,
        first: float = -3.0,
        last: float = 3.0,
        tau: Annotated[float, Gt(0)] = 1.0,
        largest_beta: Annotated[float, Gt(0), Lt(1)] = 0.999,
    ) -> None:
        if not first < last:
            raise ComponentError(f"sigmoid: last = {last} must be above first = {first}")
        self._steps, self._largest = steps, largest_beta
        self._first, self._last = first / tau, last / tau

    @property
    def betas(self) -> Float64[Tensor, " steps"]:
        """`beta_k`, k = 1..T."""
        return sigmoid_betas(self._steps, self._first, self._last, self._largest)
