"""Ancestral sampling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

from torch import Tensor

from diffkit.core.component import Config, Facts
from diffkit.core.denoiser import Denoiser
from diffkit.core.example import Example
from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import State, StepSampler
from diffkit.errors import ComponentError

_FRACTIONS = {"fixed_small": 0.0, "fixed_large": 1.0}
_LEARNED = "learned_range"


class DDPM(StepSampler):
    """Draws `x_s` from `p(x_s | x_t) = N(posterior mean at the predicted x_0, variance)`.

    Ho et al. (2020), Algorithm 2, between any two times `s < t`: on a sub-grid the variances are
    those of the respaced chain (Nichol & Dhariwal, 2021, section 4).

    Args:
        variance: `fixed_small`, the posterior's own `sigma_s^2 r`, right for data that is one
            point; `fixed_large`, the step's beta, right for data of unit variance (Ho et al.,
            2020, section 3.2); or `learned_range`, between them in log space, where the model
            says (Nichol & Dhariwal, 2021, eq. 15). The first two differ most at few steps, where
            `fixed_small` is the better. None: `learned_range` of a model that has it, else
            `fixed_small`.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess

    def __init__(
        self,
        *,
        variance: Literal["fixed_small", "fixed_large", "learned_range"] | None = None,
    ) -> None:
        if variance not in (*_FRACTIONS, _LEARNED, None):
            allowed = ", ".join((*_FRACTIONS, _LEARNED))
            raise ComponentError(f"ddpm: variance is one of {allowed} or None, not {variance!r}")
        self._variance = variance

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """A model that predicts what is asked for."""
        if config.variance == _LEARNED and not facts.get("model.learned_variance"):
            yield (
                "variance is learned_range, and the model predicts no variance; set the model's "
                "learned_variance, or variance to fixed_small or fixed_large"
            )

    @property
    def order(self) -> int:
        """1, of the variance: each step's is right for one kind of data only."""
        return 1

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """Both variances."""
        return [Example(), Example({"variance": "fixed_large"})]

    def step(self, denoiser: Denoiser, x_t: Tensor, t: float, s: float, noise: Noise) -> State:
        """One ancestral step; the last, to `s = 0`, adds no noise."""
        prediction = denoiser(x_t, t)
        if not isinstance(prediction, GaussianPrediction):
            raise ComponentError("ddpm: the denoiser gives no Gaussian prediction")
        if self._variance in _FRACTIONS:
            prediction = prediction.with_variance_fraction(_FRACTIONS[self._variance])
        elif self._variance == _LEARNED and prediction.variance_fraction is None:
            raise ComponentError("ddpm: variance is learned_range, and the model predicts none")
        return State(denoiser.process.reverse(prediction, x_t, t, s, noise), s, prediction)
