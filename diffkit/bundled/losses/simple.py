"""The simplified ELBO."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from diffkit.core.component import Config, Facts
from diffkit.core.loss import Batch, Loss, LossContext, LossRecord
from diffkit.core.prediction import GaussianPrediction, Target
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.weighting import Unweighted, Weighting
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import as_tensor, broadcast_right
from diffkit.functional.gaussian import Scales


class Simple(Loss):
    """The squared error of the network's output against its target, at random times.

    For a network that predicts epsilon, `L_simple = E_{t, x_0, epsilon} |epsilon -
    epsilon_theta(x_t, t)|^2`, Ho et al. (2020), eq. 14; for another parameterization the target
    is `A x_0 + B epsilon`. The square is averaged over a sample's coordinates, so that values
    compare between shapes: zero for a perfect network, about 1 for one that outputs zeros.

    Args:
        weighting: the weight of each noise level.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess

    def __init__(self, *, weighting: Weighting = Unweighted()) -> None:
        self._weighting = weighting

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """No part of a model that would not be trained."""
        if facts.get("model.learned_variance"):
            yield (
                "the model predicts a variance, which this loss does not train; use the loss "
                "'hybrid' or 'elbo', or set the model's learned_variance to false"
            )

    def __call__(self, batch: Batch, context: LossContext) -> LossRecord:
        """`values`, `[b]`: the weighted mean squared error of each sample."""
        process = context.process
        assert isinstance(process, GaussianProcess)
        t, importance = context.draw_times(len(batch))
        epsilon = process.draw(batch.x_0, context.noise, batch.given)
        prediction = context.denoiser(process.diffuse(batch.x_0, t, epsilon), t)
        if not isinstance(prediction, GaussianPrediction):
            raise ComponentError("simple: the denoiser gives no Gaussian prediction")
        on_x_0, on_epsilon = (broadcast_right(c, epsilon) for c in prediction.target)
        target = on_x_0 * batch.x_0 + on_epsilon * epsilon
        errors = (prediction.output - target).square().flatten(1).mean(1)
        weight = importance
        if not isinstance(self._weighting, Unweighted):
            scales = Scales(*map(as_tensor, prediction.scales))
            asked = Target(*map(as_tensor, prediction.target))
            of_output = self._weighting.of_output(process.log_snr(t), scales, asked)
            weight = importance * of_output
        return LossRecord(values=broadcast_right(weight, errors) * errors, t=t)
