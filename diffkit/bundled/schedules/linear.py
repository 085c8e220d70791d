"""The linear schedule of DDPM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le
from torch import Tensor

from diffkit.core.example import Example
from diffkit.core.schedule import DiscreteSchedule
from diffkit.errors import ComponentError
from diffkit.functional.betas import linear_betas

if TYPE_CHECKING:
    from jaxtyping import Float64

_REFERENCE_STEPS = 1000


class Linear(DiscreteSchedule):
    """Betas evenly spaced from `beta_first` to `beta_last`.

    `beta_k = beta_first + (k - 1)/(T - 1) (beta_last - beta_first)`, Ho et al. (2020), section 4.
    The betas are those for T = 1000; for another T they are multiplied by `1000 / T`, which
    keeps `alpha_bar(t)` nearly the same curve (Nichol & Dhariwal, 2021). `rescale=False` takes
    them as they are.

    Args:
        steps: T, the number of noise levels, a million at most.
        beta_first: the first beta, in (0, 1).
        beta_last: the last beta, in (0, 1), not below the first.
        rescale: multiply the betas by `1000 / T`.

    Raises:
        ComponentError: a beta, after rescaling, lies outside (0, 1), or they decrease.
    """

    def __init__(
        self,
        *,
        steps: Annotated[int, Ge(1), Le(1_000_000)] = 1000,
        beta_first: Annotated[float, Gt(0)] = 1e-4,
        beta_last: Annotated[float, Gt(0)] = 0.02,
        rescale: bool = True,
    ) -> None:
        scale = _REFERENCE_STEPS / steps if rescale else 1.0
        if beta_last < beta_first:
            raise ComponentError(f"linear: beta_last {beta_last} is below beta_first {beta_first}")
        if not scale * beta_last < 1.0:
            raise ComponentError(
                f"linear: with steps = {steps} the last beta becomes {scale * beta_last:.4g}, "
                "which must be below 1; "
                f"take more than {int(_REFERENCE_STEPS * beta_last)} steps or a smaller beta_last"
            )
        self._steps = steps
        self._first, self._last = scale * beta_first, scale * beta_last

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """Three lengths."""
        return [Example(), Example({"steps": 50}), Example({"steps": 4000, "rescale": False})]

    @property
    def betas(self) -> Float64[Tensor, " steps"]:
        """`beta_k`, k = 1..T."""
        return linear_betas(self._steps, self._first, self._last)
