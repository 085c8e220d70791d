"""Guidance without a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, final

import torch
from annotated_types import Ge, Le
from torch import Tensor

from diffkit.core.data import Supplied
from diffkit.core.denoiser import Denoiser, Times
from diffkit.core.guidance import Conditioning, Guidance, MakeDenoiser
from diffkit.core.guided import joined, repeated, said_of_copies
from diffkit.core.model import Condition
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.schedule import Time
from diffkit_guidance._leading import Interval, Led, check_interval, gaussian


@final
class ClassifierFree(Guidance):
    """Away from the prediction without a condition: `null + scale (conditional - null)`.

    Ho & Salimans (2022), eq. 6, whose w is `scale - 1`: here 1 is no guidance, and 0 no condition,
    as in most code since. It is the network's outputs that are added up, which for every
    parameterization is the same as adding up `epsilon`. Both are computed in one call on a batch
    of twice the size.

    Args:
        scale: how far; 1 is no guidance.
        interval: of the log-SNR, within which to guide; elsewhere the condition alone leads, at
            half the cost. Kynkäänniemi et al. (2024), eq. 5, whose sigma is `exp(-log_snr / 2)`.
            None: everywhere.
        rescale: the share, in [0, 1], of the output in which the guided one is given the standard
            deviation of the conditional one, sample by sample. Lin et al. (2024), eq. 14-16. An
            output that is constant has no deviation to change, and stays as it is.
        negative: the names of the encoder's conditions in whose stead others may be given, as
            `negative_<name>`: what is led away from is then these, and not no condition; all else
            that samples are given stays. The pipeline supplies all that its encoder takes.

    Raises:
        ComponentError: the interval is none.
    """

    needs_null = True

    def __init__(
        self,
        *,
        scale: Annotated[float, Ge(0)] = 3.0,
        interval: Interval | None = None,
        rescale: Annotated[float, Ge(0), Le(1)] = 0.0,
        negative: Annotated[tuple[str, ...] | None, Supplied("encoder.takes")] = None,
    ) -> None:
        check_interval("classifier-free", interval)
        self._scale, self._interval, self._rescale = scale, interval, rescale
        self._negative = {f"negative_{name}": name for name in negative or ()}

    @property
    def may_take(self) -> tuple[str, ...]:
        """`negative_<name>`, of each of the encoder's conditions."""
        return tuple(self._negative)

    def guide(self, make_denoiser: MakeDenoiser, conditioning: Conditioning) -> Denoiser:
        """The guided denoiser."""
        given = conditioning.given
        others = {name: given[key] for key, name in self._negative.items() if key in given}
        away = conditioning.encoded(others) if others else conditioning.null
        both = joined(conditioning.condition, away)
        return _Led(
            make_denoiser(conditioning.condition),
            make_denoiser(both),
            self._scale,
            self._interval,
            self._rescale,
        )


class _Led(Led):
    def __init__(
        self,
        conditional: Denoiser,
        both: Denoiser,
        scale: float,
        interval: Interval | None,
        rescale: float,
    ) -> None:
        super().__init__(conditional, interval, idle=scale == 1.0)
        self._joint, self._scale, self._rescale = both, scale, rescale

    def start(self, inputs: Mapping[str, Tensor]) -> Led:
        # One batch holds each sample twice, and so do its inputs.
        started = self.wrapped.start(inputs), self._joint.start(repeated(inputs, 2))
        return _Led(*started, self._scale, self._interval, self._rescale)

    def _both(
        self, x_t: Tensor, t: Time, given: Condition, times: Times
    ) -> tuple[GaussianPrediction, Tensor]:
        said = said_of_copies(self._joint, 2, x_t, t, given=given, times=times)
        towards, away = (gaussian(prediction) for prediction in said)
        led = torch.lerp(away.output, towards.output, self._scale)
        if self._rescale:
            ratio = _ratio(towards.output, away.output, led, self._scale)
            led = led * (1.0 + self._rescale * (ratio - 1.0))
        return towards, led


def _ratio(towards: Tensor, away: Tensor, led: Tensor, scale: float) -> Tensor:
    """Between the standard deviations of each sample; 1 where what is led is constant, or one
    number, but for what rounding leaves of the terms that it is the sum of.
    """
    over = tuple(range(1, led.ndim))
    deviation = led.std(over, correction=0, keepdim=True)
    sizes = [term.abs().amax(over, keepdim=True) for term in (towards, away)]
    rounding = 8 * torch.finfo(led.dtype).eps * (1.0 + scale) * torch.maximum(*sizes)
    constant = deviation <= rounding
    ratio = towards.std(over, correction=0, keepdim=True) / torch.where(constant, 1.0, deviation)
    return torch.where(constant, 1.0, ratio)
