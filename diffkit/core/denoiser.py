"""Denoiser: predicts clean data from a noisy sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffkit.core.model import Condition, Network, Output
from diffkit.core.parameterization import TIME_SCALE
from diffkit.core.prediction import NO_EXTRAS, Extras, Prediction
from diffkit.core.process import ForwardProcess
from diffkit.core.schedule import Time, as_time
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import Number, wrong_shape

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

DataRange = tuple[float, float]
Times = Mapping[str, Time]
"""Second times by name."""


class Denoiser(ABC):
    """Predicts the data behind a noisy sample of the process it exposes.

    Guidance wraps a denoiser into a denoiser. State that lives for one trajectory only is made by
    `start` and nowhere else. What wraps a denoiser hands `given` and `times` on to it.
    """

    @property
    @abstractmethod
    def process(self) -> ForwardProcess:
        """The process whose noisy samples this denoiser takes."""

    @property
    def data_range(self) -> DataRange | None:
        """The smallest and largest value that data can have, where that is declared."""
        return None

    @abstractmethod
    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> Prediction:
        """The prediction at `x_t`; `t` is a host number, or a host tensor `[b]`.

        Args:
            x_t: the noisy sample.
            t: its time.
            given: tensors for the network, by the names that it declares (`given`), a row a sample:
                an earlier prediction, a control network's residuals.
            times: second times, by the names that it declares (`times`), like t.
        """

    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        """The denoiser for one trajectory. What wraps a denoiser wraps what that one's `start`
        gives.
        """
        return self

    def check_times(self, times: Sequence[float]) -> None:
        """Raise ComponentError where a trajectory over these times asks what was never trained.

        Called before anything is computed. What wraps a denoiser asks that one.
        """
        return


class WrappedDenoiser(Denoiser):
    """A denoiser around another, with that one's process, range and trained times.

    Around several, as guidance is, it goes by the first; `start` then starts each of them.
    """

    def __init__(self, wrapped: Denoiser) -> None:
        self.wrapped = wrapped

    @property
    def process(self) -> ForwardProcess:
        """That of the denoiser within."""
        return self.wrapped.process

    @property
    def data_range(self) -> DataRange | None:
        """That of the denoiser within."""
        return self.wrapped.data_range

    def check_times(self, times: Sequence[float]) -> None:
        """Raise ComponentError where the denoiser within does."""
        self.wrapped.check_times(times)

    @abstractmethod
    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        """The same around what the denoiser within gives for one trajectory."""


class ModelDenoiser(Denoiser):
    """A network seen through its own process, which need not be Gaussian."""

    def __init__(
        self,
        model: Network,
        process: ForwardProcess,
        *,
        condition: Condition | None = None,
        data_range: DataRange | None = None,
        declared: Declared | None = None,
    ) -> None:
        self._model = model
        self._process = process
        self._condition = dict(condition or {})
        self._data_range = data_range
        self._declared = declared or Declared()

    @property
    def process(self) -> ForwardProcess:
        return self._process

    @property
    def data_range(self) -> DataRange | None:
        return self._data_range

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> Prediction:
        c_noise = per_sample(TIME_SCALE * as_time(t), x_t)
        condition = self._condition
        if given or times or self._declared.times:
            asked = {name: TIME_SCALE * as_time(r) for name, r in (times or {}).items()}
            condition = {**condition, **self._declared.told(given or {}, asked, c_noise, x_t)}
        output, extras = answer_of(self._model(x_t, c_noise, condition), x_t)
        if not isinstance(output, Tensor):
            raise ComponentError(f"model: it gives a {type(output).__name__}, and not a tensor")
        prediction = self._process.interpret(output, x_t, t)
        if not isinstance(prediction, Prediction):
            raise ComponentError(
                f"process: {type(self._process).__name__}.interpret gives a "
                f"{type(prediction).__name__}, and not a Prediction, a record with an x_0"
            )
        return prediction.with_extras(extras) if extras else prediction


@dataclass(frozen=True)
class Declared:
    """What a network can be told beside a sample, its noise level and its conditions."""

    given: tuple[str, ...] = ()
    times: tuple[str, ...] = ()

    def told(
        self, given: Condition, times: Mapping[str, Number], c_noise: Tensor, x_t: Tensor
    ) -> dict[str, Tensor]:
        """All of it as tensors, a row a sample. A second time that is not given is t itself.

        `times` are noise levels, made of times as `c_noise` is. Raises ComponentError for a name
        that the network does not take, or a tensor of another number of rows.
        """
        for what, names, known in (("given", given, self.given), ("times", times, self.times)):
            if unknown := sorted(names.keys() - set(known)):
                raise ComponentError(
                    f"{what}: {', '.join(unknown)} is asked with, and the model takes "
                    f"{', '.join(known) or 'none'} there; it declares its names in facts ({what})"
                )
        for name, value in given.items():
            if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(x_t):
                found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ComponentError(
                    f"given.{name} is {found}, and {len(x_t)} samples are asked about; give a "
                    "tensor with a row a sample"
                )
        for name, level in times.items():
            if isinstance(level, Tensor) and level.shape not in ((), (len(x_t),), c_noise.shape):
                raise ComponentError(
                    f"times.{name} has the shape {list(level.shape)}, and {len(x_t)} samples are "
                    "asked about; a time is a number, one a sample, or as t is: give levels of "
                    "other shapes as a tensor (given)"
                )
        levels = {name: per_sample(times[name], x_t) for name in self.times if name in times}
        return {**dict.fromkeys(self.times, c_noise), **levels, **given}


def answer_of(answer: Tensor | Output, x_t: Tensor) -> tuple[Tensor, Extras]:
    """A network's output, and what it gave beside it.

    Raises ComponentError for an extra that is no tensor with a row a sample: guidance and parts of
    a batch would go on with others' rows.
    """
    if not isinstance(answer, Output):
        return answer, NO_EXTRAS
    for name, value in answer.extras.items():
        if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(x_t):
            found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ComponentError(
                f"model: its extra {name!r} is {found}, and {len(x_t)} samples were asked about; "
                "give a tensor with a row a sample (`value.expand(len(x), ...)` where all have the "
                "same)"
            )
    return answer.output, Extras(answer.extras)


def per_sample(value: Number, x_t: Shaped[Tensor, "b *data"]) -> Float[Tensor, "b *axes"]:
    """A host value as float32 on the device of `x_t`, one a sample, or for each of its first axes.

    Raises ComponentError for one of another shape.
    """
    if isinstance(value, float) or value.ndim == 0:
        return torch.full((x_t.shape[0],), float(value), device=x_t.device)
    if value.shape != x_t.shape[: value.ndim]:
        raise wrong_shape(value.shape, x_t)
    return value.to(device=x_t.device, dtype=torch.float32, non_blocking=True)
