"""A schedule that is learnt with the network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from diffkit.core.schedule import NoiseSchedule, Time, as_time
from diffkit.errors import ComponentError

if TYPE_CHECKING:
    from jaxtyping import Float64

_T_MIN = 1e-3
_HALVINGS = 55
"""Of the interval of times: to the last digit of a float64."""
_SLACK = 1e-9
_SMALLEST_SPAN = 1e-3


class Learned(nn.Module, NoiseSchedule):
    """A monotone network from time to log-SNR, whose ends are learnt too.

        log_snr(t) = highest - (highest - lowest) (g(t) - g(0)) / (g(1) - g(0))
        g(t) = a t + sum_j w_j sigmoid(s_j t + b_j)         a, w_j, s_j > 0

    Kingma et al. (2021), section 3.2 and appendix H, with the hidden layer's own line in place of
    their first layer. It begins almost linear. All of it follows the loss, which has to be a bound,
    `elbo`: another loss would rather have noise that is easy to predict. In many steps the bound
    depends on the two ends alone (their eq. 18), and what is between them changes its variance.
    Times are on the host, and its parameters are brought there with each question.

    Args:
        highest: the log-SNR at the smallest noise, to begin with; the paper's is 13.3.
        lowest: the log-SNR at t = 1, to begin with; the paper's is -5.
        hidden: the number of sigmoids; the paper's is 1024.

    Raises:
        ComponentError: `highest` is not above `lowest`.
    """

    def __init__(
        self,
        *,
        highest: float = 13.3,
        lowest: float = -5.0,
        hidden: Annotated[int, Ge(1)] = 128,
    ) -> None:
        super().__init__()
        if highest - lowest < _SMALLEST_SPAN:
            raise ComponentError(
                f"learned: highest = {highest} must be above lowest = {lowest}; the log-SNR falls "
                "from the one to the other"
            )
        self.lowest = nn.Parameter(torch.tensor(lowest))
        self.span = nn.Parameter(torch.tensor(math.log(highest - lowest)))
        self.slope = nn.Parameter(torch.tensor(_unsoftplus(1.0)))
        # Evenly spread over the times, wide enough that neighbours overlap, and small beside a t.
        centers = (torch.arange(hidden) + 0.5) / hidden
        steep = torch.full((hidden,), min(10.0, float(hidden)))
        self.steepness = nn.Parameter(_unsoftplus_of(steep))
        self.shift = nn.Parameter(-steep * centers)
        self.weight = nn.Parameter(torch.full((hidden,), _unsoftplus(0.1 / hidden)))

    @property
    def t_min(self) -> float:
        """A thousandth."""
        return _T_MIN

    def log_snr(self, t: Time) -> Float64[Tensor, "..."]:
        """The formula, on the device of `t`; +inf at t = 0. Gradients reach its parameters."""
        t = as_time(t)
        inside = self._inside(t)
        return torch.where(t > 0, inside, torch.inf)

    def time_at(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Its inverse, by halving intervals. Raises ComponentError outside the range."""
        wanted = log_snr.detach().double()
        with torch.no_grad():
            ends = self._inside(torch.tensor([0.0, 1.0], dtype=torch.float64))
            highest, lowest = (float(end) for end in ends)
            good = (wanted >= lowest - _SLACK) & (wanted <= highest + _SLACK)
            if not bool((good | wanted.isposinf()).all()):
                found = wanted[~(good | wanted.isposinf())].flatten()[0]
                raise ComponentError(
                    f"learned: log-SNR {float(found):.6g} is outside [{lowest:.6g}, "
                    f"{highest:.6g}], where the schedule is now"
                )
            low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
            for _ in range(_HALVINGS):
                middle = 0.5 * (low + high)
                later = self._inside(middle) > wanted
                low, high = torch.where(later, middle, low), torch.where(later, high, middle)
            return torch.where(wanted.isposinf(), 0.0, 0.5 * (low + high))

    def _inside(self, t: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        slope, steep, shift, weight, lowest, span = self._numbers(t.device)

        def risen(at: Tensor) -> Tensor:
            # From the value at 0, term by term, so that none cancels another.
            terms = torch.sigmoid(steep * at[..., None] + shift) - torch.sigmoid(shift)
            return slope * at + (weight * terms).sum(-1)

        whole = risen(torch.ones((), dtype=torch.float64, device=t.device))
        return lowest + span.exp() * (1.0 - risen(t) / whole)

    def _numbers(self, device: torch.device) -> tuple[Tensor, ...]:
        """Slope, steepness, shift, weight, lowest and span, in float64, in one copy."""
        parts = (self.slope, self.steepness, self.shift, self.weight, self.lowest, self.span)
        whole = torch.cat([part.double().reshape(-1) for part in parts]).to(device)
        slope, steep, shift, weight, lowest, span = (
            piece.reshape(part.shape)
            for piece, part in zip(
                torch.split(whole, [part.numel() for part in parts]), parts, strict=True
            )
        )
        return F.softplus(slope), F.softplus(steep), shift, F.softplus(weight), lowest, span


def _unsoftplus(value: float) -> float:
    """The x whose softplus is `value`."""
    return math.log(math.expm1(value))


def _unsoftplus_of(value: Tensor) -> Tensor:
    return value + torch.log(-torch.expm1(-value))
