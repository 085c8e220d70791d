"""What every sampler here asks a denoiser, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from torch import Tensor

from diffkit.core.component import Config, Facts
from diffkit.core.denoiser import Denoiser
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError


@final
class Predictor:
    """A denoiser of a Gaussian process, its predictions clipped where that is wanted.

    Args:
        name: the sampler's, for errors.
        denoiser: who is asked.
        clip: clip the predicted `x_0` to the data's declared range; None clips where a range is
            declared.

    Raises:
        ComponentError: the process is not Gaussian, or there is no range to clip to.
    """

    def __init__(self, name: str, denoiser: Denoiser, clip: bool | None = False) -> None:
        process = denoiser.process
        if not isinstance(process, GaussianProcess):
            raise ComponentError(
                f"{name}: it walks Gaussian processes, and {type(process).__name__} is not one; "
                "use a sampler that calls process.reverse only, such as 'diffkit.ddpm'"
            )
        if clip and denoiser.data_range is None:
            raise ComponentError(
                f"{name}: clip is true, but the data declare no range to clip to; "
                "set data.range, or clip to false"
            )
        self.name = name
        self.process = process
        self._denoiser = denoiser
        self._range = None if clip is False else denoiser.data_range

    def __call__(self, x_t: Tensor, t: Time) -> GaussianPrediction:
        """The prediction at `x_t` and `t`."""
        prediction = self._denoiser(x_t, t)
        if not isinstance(prediction, GaussianPrediction):
            raise ComponentError(f"{self.name}: the denoiser gives no Gaussian prediction")
        return prediction if self._range is None else prediction.clipped(*self._range)


def range_to_clip_to(config: Config, facts: Facts) -> Iterable[str]:
    """The problem of a sampler that is told to clip data of no declared range."""
    if config.clip and facts.get("data.range") is None:
        yield (
            "clip is true, but the data declare no range to clip to; "
            "set data.range, or clip to false"
        )


def any_time(facts: Facts, reason: str) -> Iterable[str]:
    """The problem of a sampler that asks between the times of the walk, for this reason."""
    grid = facts.get("model.steps")
    if grid is not None:
        yield (
            f"the model can be asked only at multiples of 1/{grid}, and {reason}; "
            "use a sampler that asks at the times of the walk only, such as 'samplers.dpmpp-2m'"
        )
