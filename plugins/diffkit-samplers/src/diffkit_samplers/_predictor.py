"""What every sampler here asks a denoiser, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from torch import Tensor

from diffkit.core.component import Facts
from diffkit.core.denoiser import Denoiser
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError


@final
class Predictor:
    """A denoiser of a Gaussian process, whose predictions are Gaussian.

    Args:
        name: the sampler's, for errors.
        denoiser: who is asked.

    Raises:
        ComponentError: the process is not Gaussian, or a prediction.
    """

    def __init__(self, name: str, denoiser: Denoiser) -> None:
        process = denoiser.process
        if not isinstance(process, GaussianProcess):
            raise ComponentError(
                f"{name}: it samples from Gaussian processes, and {type(process).__name__} is not "
                "one; use a sampler that calls process.reverse only, such as 'diffkit.ddpm'"
            )
        self.name = name
        self.process = process
        self._denoiser = denoiser

    def __call__(self, x_t: Tensor, t: Time) -> GaussianPrediction:
        """The prediction at `x_t` and `t`."""
        prediction = self._denoiser(x_t, t)
        if not isinstance(prediction, GaussianPrediction):
            raise ComponentError(f"{self.name}: the denoiser gives no Gaussian prediction")
        return prediction


def any_time(facts: Facts, reason: str) -> Iterable[str]:
    """The problem of a sampler that asks between the times of the trajectory, for this reason."""
    grid = facts.get("model.steps")
    if grid is not None:
        yield (
            f"the model can be asked only at multiples of 1/{grid}, and {reason}; "
            "use a sampler that asks at the times of the trajectory only, such as "
            "'samplers.dpmpp-2m'"
        )
