"""How many bits a dimension the model needs for data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from diffkit.core.bound import CONTINUOUS_STEPS, Bound, chain_problems
from diffkit.core.component import Config, Facts
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import Denoiser
from diffkit.core.loss import Batch
from diffkit.core.metric import Denoising, Measured, ModelMetric
from diffkit.core.noise import SampleNoise, mix
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import GaussianProcess
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import broadcast_right

if TYPE_CHECKING:
    from jaxtyping import Float64

_CHUNK = 64


class BitsPerDim(ModelMetric):
    """The variational bound on `-log2 p(x_0)`, over the number of dimensions; lower is better.

    All of Ho et al. (2020), eq. 5: prior, T - 1 divergences and decoder (eq. 13), on the data of
    the pipeline. The predicted x_0 is clipped to the data's range where sampling clips it. The
    curve `terms` has the mean bits of each term at its time: which t costs how many.

    Args:
        levels: how many values data has between the ends of their range: 256 for 8-bit images.
            None: data is not discrete, and bits are of its density, in the data's own units.
        variance: of the reverse steps; see the sampler `ddpm`. None: `learned_range` of a model
            that has it; else `fixed_small` of data with levels, and of others `fixed_large`, with
            which the bound tends to the entropy as T grows.
        steps: T, of a continuous schedule; 1000 where None. Of a discrete one it is the schedule's.
        draws: how many divergences are drawn for each datum beside prior and decoder, more of them
            at little noise, where most of the bits are, and each weighted by the inverse of its
            probability, which leaves the mean what it is. None: all.
        max_samples: of the data, drawn at random.
    """

    def __init__(
        self,
        *,
        levels: Annotated[int, Ge(2)] | None = 256,
        variance: Literal["fixed_small", "fixed_large", "learned_range"] | None = None,
        steps: Annotated[int, Ge(2)] | None = None,
        draws: Annotated[int, Ge(1)] | None = 20,
        max_samples: Annotated[int, Ge(2)] = 1000,
    ) -> None:
        self._levels, self._variance, self._steps = levels, variance, steps
        self._draws, self._max_samples = draws, max_samples

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """A range where data has levels, and a variance that there is."""
        if facts.get("data.range") is None and config.levels is not None:
            yield (
                "data with levels need a range, and none is declared; set data.range, or levels to "
                "null for data that are not discrete"
            )
        if config.variance == "learned_range" and not facts.get("model.learned_variance"):
            yield "variance is learned_range, and the model predicts no variance"
        yield from chain_problems(config.steps, facts)

    def measure_model(
        self, model: Denoising, dataset: Dataset, seed: int, device: torch.device
    ) -> Measured:
        """`bits_per_dim`, its `standard_error` over data, and the shares `prior` and `decoder`."""
        generator = torch.Generator().manual_seed(mix(seed, "bits"))
        count = min(len(dataset), self._max_samples)
        rows = torch.randperm(len(dataset), generator=generator)[:count].tolist()
        totals, priors, drawn = [], [], []
        for start in range(0, count, _CHUNK):
            chunk = rows[start : start + _CHUNK]
            total, prior, terms = self._of(model, dataset.batch(chunk), chunk, seed, device)
            totals.append(total)
            priors.append(prior)
            drawn.append(terms)
        whole = torch.cat(totals).double()
        curve = _curve(torch.cat(drawn))
        error = {"standard_error": float(whole.std()) / math.sqrt(count)} if count > 1 else {}
        values = {
            "bits_per_dim": float(whole.mean()),
            **error,
            "prior": float(torch.cat(priors).double().mean()),
            "decoder": float(curve[0, 1]),
        }
        return Measured(values, {"terms": curve})

    def _of(
        self, model: Denoising, batch: Batch, rows: list[int], seed: int, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of some data, on the host: the bounds, the prior terms, and `(t, bits)` of each term
        that was drawn.
        """
        x_0 = batch.x_0.to(device)
        condition = {name: value.to(device) for name, value in batch.condition.items()}
        given = {name: value.to(device) for name, value in batch.given.items()}
        denoiser = model(condition)
        process = denoiser.process
        if not isinstance(process, GaussianProcess):
            raise ComponentError("bits-per-dim: the bound is of Gaussian processes only")
        steps = self._steps or process.schedule.steps or CONTINUOUS_STEPS
        bound = Bound(process, steps, self._levels, denoiser.data_range)
        draws = min(self._draws or steps, steps - 1)
        distribution = _Distribution.of(steps, draws)
        noise = SampleNoise(seed=mix(seed, "bits"), indices=rows, device=device)
        places = torch.Generator().manual_seed(mix(seed, "places", rows[0]))
        with torch.no_grad():
            prior = bound.prior(x_0)
            total, drawn = prior.clone(), []
            one = torch.ones(len(rows), dtype=torch.float64)
            for number in range(1 + draws):
                # First the decoder.
                inside = torch.rand(len(rows), generator=places, dtype=torch.float64)
                k, weight = distribution.draw(number - 1 + inside) if number else (one, one)
                t = bound.on_chain(k / steps)
                epsilon = process.draw(x_0, noise, given)
                prediction = self._prediction(denoiser, process.diffuse(x_0, t, epsilon), t)
                term = bound.term(x_0, prediction, t)
                total = total + broadcast_right(weight, term) * term
                drawn.append((t, term))
        times = torch.cat([t for t, _ in drawn])
        found = torch.cat([term for _, term in drawn]).cpu().double()
        terms = torch.stack([times, found], dim=1)
        return total.cpu(), prior.cpu(), terms

    def _prediction(self, denoiser: Denoiser, x_t: Tensor, t: Tensor) -> GaussianPrediction:
        prediction = denoiser(x_t, t)
        if not isinstance(prediction, GaussianPrediction):
            raise ComponentError("bits-per-dim: the denoiser gives no Gaussian prediction")
        if self._variance in ("fixed_small", "fixed_large"):
            prediction = prediction.with_variance_fraction(float(self._variance == "fixed_large"))
        return prediction


@dataclass(frozen=True)
class _Distribution:
    """Which k, from 2 to T, are drawn, so many for each datum.

    Half as often evenly, and half in proportion to 1/k: terms fall about so, and the first half
    bounds the weights. Each draw is from its own part of the distribution, all parts equally
    likely.
    """

    probability: Float64[Tensor, " k"]
    below: Float64[Tensor, " k"]
    """The probability of a smaller k."""
    draws: int

    @classmethod
    def of(cls, steps: int, draws: int) -> _Distribution:
        """Of a chain; where as many are drawn as there are, each once."""
        k = torch.arange(2, steps + 1, dtype=torch.float64)
        even = torch.full_like(k, 1.0 / len(k))
        falling = 1.0 / k
        mixed = even if draws == len(k) else 0.5 * (even + falling / falling.sum())
        return cls(mixed, mixed.cumsum(0) - mixed, draws)

    def draw(self, place: Float64[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """The k at places from 0 to `draws` of the distribution, and their weights `1 / (draws
        p(k))`.
        """
        # The middle of rounding: an even distribution's parts begin where a k does.
        found = torch.searchsorted(self.below, place / self.draws + 1e-12, right=True) - 1
        return found.double() + 2.0, 1.0 / (self.draws * self.probability[found])


def _curve(terms: Tensor) -> Tensor:
    """The mean bits at each time that was drawn, in order."""
    times, place = torch.unique(terms[:, 0], return_inverse=True)
    sums = torch.zeros_like(times).index_add(0, place, terms[:, 1])
    counts = torch.zeros_like(times).index_add(0, place, torch.ones_like(terms[:, 1]))
    return torch.stack([times, sums / counts], dim=1)
