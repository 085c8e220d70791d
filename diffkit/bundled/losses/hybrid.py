"""The simplified loss for the mean, and a little of the bound for the variance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt

from diffkit.bundled.losses.elbo import bound_of, gaussian_prediction
from diffkit.core.bound import chain_problems
from diffkit.core.component import Config, Facts
from diffkit.core.loss import Batch, Loss, LossContext, LossRecord
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.functional.coefficients import broadcast_right


class Hybrid(Loss):
    """`L_simple + bound_weight L_vlb`, the gradient of the mean stopped in the second term.

    Nichol & Dhariwal (2021), eq. 16, with `bound_weight` their lambda. `L_vlb` is the whole bound
    in bits a dimension, `L_T + T E_k[L_{k-1}]`, as `elbo` gives it. Where code multiplies a single
    term `L_{k-1}` instead, its factor is T times ours: 1 where ours is 0.001 and T is 1000.

    Args:
        bound_weight: lambda.
        levels: how many values data has between the ends of their range: 256 for 8-bit images.
            None: data is not discrete.
        steps: T, of a continuous schedule; 1000 where None. Of a discrete one it is the schedule's.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess

    def __init__(
        self,
        *,
        bound_weight: Annotated[float, Gt(0)] = 0.001,
        levels: Annotated[int, Ge(2)] | None = 256,
        steps: Annotated[int, Ge(2)] | None = None,
    ) -> None:
        self._weight, self._levels, self._steps = bound_weight, levels, steps

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """A model that predicts a variance; a range where data has levels."""
        if not facts.get("model.learned_variance"):
            yield (
                "the second part of this loss trains the variance, and the model predicts none; "
                "set the model's learned_variance, or use the loss 'simple'"
            )
        yield from chain_problems(config.steps, facts)
        if config.levels is not None and facts.get("data.range") is None:
            yield (
                "data with levels need a range, and none is declared; set data.range, or levels "
                "to null for data that are not discrete"
            )

    def __call__(self, batch: Batch, context: LossContext) -> LossRecord:
        """`values`, `[b]`; `terms`: `simple`, and `bound` in bits a dimension."""
        t, importance = context.draw_times(len(batch))
        bound = bound_of(context, self._steps, self._levels)
        t = bound.on_chain(t)
        assert isinstance(context.process, GaussianProcess)
        epsilon = context.process.draw(batch.x_0, context.noise, batch.given)
        x_t = context.process.diffuse(batch.x_0, t, epsilon)
        prediction = gaussian_prediction(context.denoiser(x_t, t), "hybrid")
        on_x_0, on_epsilon = (broadcast_right(c, epsilon) for c in prediction.target)
        target = on_x_0 * batch.x_0 + on_epsilon * epsilon
        simple = (prediction.output - target).square().flatten(1).mean(1)
        stopped = replace(prediction, output=prediction.output.detach())
        term = bound.term(batch.x_0, stopped, t)
        whole = bound.steps * term + bound.prior(batch.x_0)
        values = broadcast_right(importance, simple) * (simple + self._weight * whole)
        return LossRecord(values=values, t=t, terms={"simple": simple, "bound": whole})
