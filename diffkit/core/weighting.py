"""Weighting: how much each noise level counts in a loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, final

import torch
from torch import Tensor

from diffkit.core.component import Component
from diffkit.core.prediction import Target
from diffkit.errors import ComponentError
from diffkit.functional.gaussian import Scales

if TYPE_CHECKING:
    from jaxtyping import Float64

WeightedError = Literal["output", "x_0", "epsilon"]
"""What is squared: the error of the network's output, or of what follows from it."""


class Weighting(Component):
    """A weight as a function of the log-SNR, on a squared error that it names."""

    kind: ClassVar[str] = "weighting"
    error: ClassVar[WeightedError] = "output"
    """The squared error that `weight` multiplies: that of the network's `output`, whatever it
    predicts; or that of `x_0` or `epsilon`, which then weighs the same whatever it predicts."""

    @abstractmethod
    def weight(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """The weight, at least 0, in the shape of `log_snr`."""

    @final
    def of_output(
        self, log_snr: Float64[Tensor, "..."], scales: Scales, target: Target
    ) -> Float64[Tensor, "..."]:
        """The same weight, as one on the squared error of the output: what a loss multiplies by.

        With `output = A x_0 + B epsilon`, an error e of the output at a given `x_t` is one of
        `-sigma e / (alpha B - sigma A)` in `x_0` and of `alpha e / (alpha B - sigma A)` in
        `epsilon`. Raises ComponentError where `error` is none of the three, or each coordinate of
        a sample has a log-SNR of its own: which of them a sample's weight is of, no paper says.
        """
        if log_snr.ndim > 1:
            raise ComponentError(
                f"{type(self).__name__}: a weighting needs one log-SNR a sample, and the process "
                "has one for each coordinate; leave weighting out, or take another process"
            )
        weight = self.weight(log_snr)
        if self.error == "output":
            return weight
        if self.error not in ("x_0", "epsilon"):
            raise ComponentError(
                f"{type(self).__name__}: error is 'output', 'x_0' or 'epsilon', not {self.error!r}"
            )
        (alpha, sigma), (on_x_0, on_epsilon) = scales, target
        determinant = alpha * on_epsilon - sigma * on_x_0
        # An output in proportion to what is weighed is told apart: there the quotient could be
        # 0 by 0, where no signal is left.
        if self.error == "x_0":
            share = torch.where(on_epsilon == 0, 1 / on_x_0, sigma / determinant)
        else:
            share = torch.where(on_x_0 == 0, 1 / on_epsilon, alpha / determinant)
        return weight * share.square()


class Unweighted(Weighting):
    """Weight 1 everywhere: the "simple" loss of Ho et al. (2020), eq. 14."""

    def weight(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Ones."""
        return torch.ones_like(log_snr)
