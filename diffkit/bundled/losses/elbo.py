"""The variational bound itself, one random term at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from diffkit.core.bound import CONTINUOUS_STEPS, Bound, chain_problems
from diffkit.core.component import Config, Facts
from diffkit.core.example import Example
from diffkit.core.loss import Batch, Loss, LossContext, LossRecord
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import broadcast_right


class Elbo(Loss):
    """The negative evidence lower bound, in bits a dimension: `L_T + T E_k[L_{k-1}]`.

    Ho et al. (2020), eq. 5, with the discretised decoder of eq. 13. For each sample one k is drawn
    from the time distribution, and its term is weighted by `1 / p(k)`, so that the mean of the
    values is the whole bound, whatever that distribution is, as long as the distribution gives
    weights for it (`uniform` and `importance` do).

    Args:
        levels: how many values data has between the ends of their range: 256 for 8-bit images.
            None: data is not discrete, and the bound is on its density, in the data's own units.
        steps: T, of a continuous schedule; 1000 where None. Of a discrete one it is the schedule's.
        variance: of the reverse steps; see the sampler `ddpm`. None: `learned_range` of a model
            that has it; else `fixed_small` of data with levels, and of others `fixed_large`, with
            which the bound tends to the entropy as T grows.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess

    def __init__(
        self,
        *,
        levels: Annotated[int, Ge(2)] | None = 256,
        steps: Annotated[int, Ge(2)] | None = None,
        variance: Literal["fixed_small", "fixed_large", "learned_range"] | None = None,
    ) -> None:
        self._levels, self._steps, self._variance = levels, steps, variance

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """A range where data has levels, and a variance that is there, and is trained."""
        learned = bool(facts.get("model.learned_variance"))
        yield from chain_problems(config.steps, facts)
        if config.levels is not None and facts.get("data.range") is None:
            yield (
                "data with levels need a range, and none is declared; set data.range, or levels "
                "to null for data that are not discrete"
            )
        if config.variance == "learned_range" and not learned:
            yield (
                "variance is learned_range, and the model predicts no variance; set the model's "
                "learned_variance"
            )
        if config.variance in ("fixed_small", "fixed_large") and learned:
            yield (
                f"the model predicts a variance, which is not trained where variance is "
                f"{config.variance}; leave variance out, or set learned_variance to false"
            )

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """Its bounds."""
        return [
            Example(),
            Example({"levels": None}),
            Example({"variance": "fixed_large"}),
            Example({"variance": "learned_range"}),
        ]

    def __call__(self, batch: Batch, context: LossContext) -> LossRecord:
        """`values`, `[b]`, whose mean is the bound; `terms`: the term that was drawn, and L_T."""
        t, importance = context.draw_times(len(batch))
        bound = bound_of(context, self._steps, self._levels)
        t = bound.on_chain(t)
        assert isinstance(context.process, GaussianProcess)
        epsilon = context.process.draw(batch.x_0, context.noise, batch.given)
        x_t = context.process.diffuse(batch.x_0, t, epsilon)
        prediction = gaussian_prediction(context.denoiser(x_t, t), "elbo")
        if self._variance in ("fixed_small", "fixed_large"):
            prediction = prediction.with_variance_fraction(float(self._variance == "fixed_large"))
        term, prior = bound.term(batch.x_0, prediction, t), bound.prior(batch.x_0)
        values = broadcast_right(importance, term) * (bound.steps * term + prior)
        return LossRecord(values=values, t=t, terms={"term": term, "prior": prior})


def bound_of(context: LossContext, steps: int | None, levels: int | None) -> Bound:
    """The bound of the process and the data that a loss is asked about."""
    process = context.process
    assert isinstance(process, GaussianProcess)
    count = steps or process.schedule.steps or CONTINUOUS_STEPS
    return Bound(process, count, levels, context.denoiser.data_range)


def gaussian_prediction(prediction: object, loss: str) -> GaussianPrediction:
    """The prediction. Raises ComponentError where it is not Gaussian."""
    if not isinstance(prediction, GaussianPrediction):
        raise ComponentError(f"{loss}: the denoiser gives no Gaussian prediction")
    return prediction
