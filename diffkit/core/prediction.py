"""What a denoiser says about a noisy sample."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Generic, NamedTuple, Self

from torch import Tensor

from diffkit.errors import ComponentError
from diffkit.functional.coefficients import (
    Coefficient,
    Number,
    as_float,
    axpby,
    broadcast_right,
    divide,
    full_like,
)
from diffkit.functional.gaussian import Scales

if TYPE_CHECKING:
    from jaxtyping import Float


class Target(NamedTuple, Generic[Coefficient]):
    """What an output stands for: `output = on_x_0 x_0 + on_epsilon epsilon`."""

    on_x_0: Coefficient
    on_epsilon: Coefficient


class Extras(dict[str, Tensor]):
    """Tensors that came with an output, by name, a row a sample.

    Raises ComponentError for a name that is not there.
    """

    __hash__ = object.__hash__  # type: ignore[assignment]  # As a default of a frozen record.

    def __missing__(self, name: str) -> Tensor:
        raise ComponentError(
            f"the prediction has no extra {name!r}; it has {', '.join(self) or 'none'}. Either the "
            "network gives none of that name (`Output(output, extras={...})`), or a guidance made "
            "its prediction anew without them: `prediction.with_output` keeps them"
        )


NO_EXTRAS = Extras()


class Prediction(ABC):
    """The base of all predictions. `x_0` may be any record of the data: logits too."""

    extras: Mapping[str, Tensor] = NO_EXTRAS
    """What the network gave beside its output. Clipping keeps them, guidance keeps those of the
    first prediction that it asked for, and parts of a batch have their rows."""

    @property
    @abstractmethod
    def x_0(self) -> Tensor:
        """The predicted data, batch first."""

    def chunk(self, count: int) -> tuple[Prediction, ...]:
        """The predictions for the samples of each of `count` equal parts of the batch.

        Raises ComponentError unless a subclass says how its record is divided.
        """
        raise ComponentError(
            f"{type(self).__name__} does not say how to divide it into the parts of a batch; give "
            "it a method chunk(count), or ask for each part by itself"
        )

    def with_extras(self, extras: Mapping[str, Tensor]) -> Self:
        """The same with these extras."""
        found = copy.copy(self)
        object.__setattr__(found, "extras", Extras(extras))
        return found


@dataclass(frozen=True, eq=False)
class GaussianPrediction(Prediction):
    """A network's output and where it was asked; every other form of it follows.

    With `output = A x_0 + B epsilon` and `x_t = alpha x_0 + sigma epsilon`:

        x_0     = (B x_t - sigma output) / (alpha B - sigma A)
        epsilon = (alpha output - A x_t) / (alpha B - sigma A)

    Coefficients are computed in float64; only what is asked for is computed.
    """

    output: Float[Tensor, "b *data"]
    x_t: Float[Tensor, "b *data"]
    target: Target[Number]
    scales: Scales[Number]
    variance_fraction: Float[Tensor, "b *data"] | float | None = None
    """Where the reverse variance lies, in log space: 0 the posterior's, 1 the largest."""
    before: GaussianPrediction | None = None
    """What this one was clipped from, if it was."""
    extras: Mapping[str, Tensor] = field(default=NO_EXTRAS)

    @property
    def unclipped(self) -> GaussianPrediction:
        """The prediction before it was clipped: for what needs it smooth, as a gradient does."""
        return self if self.before is None else self.before

    @cached_property
    def x_0(self) -> Float[Tensor, "b *data"]:
        """The predicted data."""
        _, on_epsilon, _, sigma, determinant = self._numbers
        return axpby(
            divide(on_epsilon, determinant), self.x_t, divide(-sigma, determinant), self.output
        )

    @cached_property
    def epsilon(self) -> Float[Tensor, "b *data"]:
        """The predicted noise."""
        on_x_0, _, alpha, _, determinant = self._numbers
        return axpby(
            divide(-on_x_0, determinant), self.x_t, divide(alpha, determinant), self.output
        )

    @property
    def velocity(self) -> Float[Tensor, "b *data"]:
        """`alpha epsilon - sigma x_0`. Salimans & Ho (2022), section 4 and appendix D."""
        _, _, alpha, sigma, _ = self._numbers
        return axpby(alpha, self.epsilon, -sigma, self.x_0)

    @property
    def score(self) -> Float[Tensor, "b *data"]:
        """The gradient of log q(x_t): `-epsilon / sigma`. Song et al. (2021), SDE, eq. 9."""
        return -self.epsilon / broadcast_right(self.scales.sigma, self.x_t)

    def affine(self, on_x_0: Number, on_x_t: Number) -> Float[Tensor, "b *data"]:
        """`on_x_0 x_0 + on_x_t x_t`, straight from the output where x_0 was not asked for yet."""
        _, on_epsilon, _, sigma, determinant = self._numbers
        numbers = (on_x_0, on_x_t, on_epsilon, determinant)
        if not all(isinstance(n, float) and n != 0.0 for n in numbers) or "x_0" in self.__dict__:
            return axpby(on_x_0, self.x_0, on_x_t, self.x_t)
        share = divide(on_x_0, determinant)
        return axpby(on_x_t + share * on_epsilon, self.x_t, -share * sigma, self.output)

    def clipped(self, low: float, high: float) -> GaussianPrediction:
        """The same with `x_0` clipped to `[low, high]`; `epsilon` follows from it."""
        return self.with_x_0(self.x_0.clamp(low, high))

    def with_x_0(self, x_0: Float[Tensor, "b *data"]) -> GaussianPrediction:
        """The same sample with other data behind it; `epsilon` follows. What this said is kept, as
        `unclipped`.
        """
        alpha = self.scales.alpha
        return GaussianPrediction(
            x_0,
            self.x_t,
            Target(full_like(alpha, 1.0), full_like(alpha, 0.0)),
            self.scales,
            self.variance_fraction,
            self.unclipped,
            self.extras,
        )

    def with_variance_fraction(self, fraction: float) -> GaussianPrediction:
        """The same with the reverse variance placed at `fraction`."""
        return replace(self, variance_fraction=fraction)

    def with_output(self, output: Tensor) -> GaussianPrediction:
        """The same question with another answer."""
        return GaussianPrediction(
            output,
            self.x_t,
            self.target,
            self.scales,
            self.variance_fraction,
            extras=self.extras,
        )

    def as_target(self, target: Target[Number]) -> Float[Tensor, "b *data"]:
        """What a network with this target would have to put out to say the same."""
        return axpby(target.on_x_0, self.x_0, target.on_epsilon, self.epsilon)

    def chunk(self, count: int) -> tuple[GaussianPrediction, ...]:
        """The predictions for the samples of each of `count` equal parts of the batch."""
        size = len(self.x_t) // count

        def rows(value: Tensor, index: int) -> Tensor:
            return value[index * size : (index + 1) * size]

        def part(value: Number, index: int) -> Number:
            if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[0] == 1:
                return value
            return rows(value, index)

        fraction = self.variance_fraction
        return tuple(
            GaussianPrediction(
                rows(self.output, i),
                rows(self.x_t, i),
                Target(*(part(c, i) for c in self.target)),
                Scales(*(part(c, i) for c in self.scales)),
                None if fraction is None else part(fraction, i),
                extras=Extras((name, rows(value, i)) for name, value in self.extras.items()),
            )
            for i in range(count)
        )

    @cached_property
    def _numbers(self) -> tuple[Number, Number, Number, Number, Number]:
        """A, B, alpha, sigma and `alpha B - sigma A`."""
        on_x_0, on_epsilon = (as_float(c) for c in self.target)
        alpha, sigma = (as_float(c) for c in self.scales)
        return on_x_0, on_epsilon, alpha, sigma, alpha * on_epsilon - sigma * on_x_0
