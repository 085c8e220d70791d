"""Conditions to try encoders and guidance with, and a denoiser that knows what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.denoiser import DataRange, Denoiser, Times
from diffkit.core.guidance import Conditioning
from diffkit.core.model import Condition
from diffkit.core.prediction import Extras, GaussianPrediction, Target
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import Time
from diffkit.core.text import as_text
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import broadcast_right
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.networks import facts_of

_WORDS = ("a cat", "two grey cats on a mat", "caf\u00e9", "boots", "one boat", "ash", "a hat")
MEANS = "mean"
"""The name of the condition of `Classes`: the mean of the data."""


def _texts(count: int) -> Tensor:
    return as_text([_WORDS[i % len(_WORDS)] + " " * (i // len(_WORDS)) for i in range(count)])


_KNOWN: Mapping[str, Callable[[int], Tensor]] = {
    "label": lambda count: torch.arange(count),
    "caption": _texts,
}


def raw_conditions(subject: ComponentUnderTest, count: int) -> dict[str, Tensor]:
    """What an encoder takes, for so many samples, of which neighbours differ.

    Raises ComponentError where neither the fixtures nor the kit has such a condition.
    """
    offered, found = subject.fixtures.condition(count), {}
    for name in facts_of(subject).get("takes", ()):
        if name in offered:
            found[name] = offered[name]
        elif name in _KNOWN:
            found[name] = _KNOWN[name](count)
        else:
            raise ComponentError(
                f"the encoder takes {name!r}, which the kit does not have; give "
                f"`Example(conditions={{{name!r}: ...}})`"
            )
    return found


_PROCESS = VariancePreserving(schedule=Linear())


class Classes(Denoiser):
    """The exact denoiser of data that are N(mean, variance), the mean of each sample being told.

    As a network's output it gives epsilon, and the mean as the extra `mean`. It notes what it was
    asked and what came with that, and how often it was before it was started, or with inputs of
    other rows than its samples'.
    """

    def __init__(self, mean: Tensor, variance: float = 0.25) -> None:
        self._process = _PROCESS
        self.mean, self._variance = mean, variance
        self.asked: list[int] = []
        self.told: list[dict[str, Any]] = []
        self.not_started: list[int] = []
        self.started = False

    @property
    def process(self) -> GaussianProcess:
        return self._process

    @property
    def data_range(self) -> DataRange | None:
        return (-3.0, 3.0)

    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        started = Classes(self.mean, self._variance)
        started.asked, started.not_started = self.asked, self.not_started
        started.told = self.told
        started.started = all(len(value) == len(self.mean) for value in inputs.values())
        return started

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> GaussianPrediction:
        self.asked.append(len(x_t))
        self.told.append({**(given or {}), **(times or {})})
        if not self.started:
            self.not_started.append(len(x_t))
        scales = self._process.scales(self._process.log_snr(t))
        alpha, sigma = (broadcast_right(c, x_t) for c in scales)
        total = alpha**2 * self._variance + sigma**2
        epsilon = sigma * (x_t - alpha * self.mean.to(x_t.dtype)) / total
        one = torch.ones_like(scales.alpha)
        extras = Extras({MEANS: self.mean})
        target = Target(torch.zeros_like(one), one)
        return GaussianPrediction(epsilon, x_t, target, scales, extras=extras)


def asking(made: list[Classes]) -> Callable[[Condition], Classes]:
    """Asks for `Classes` of the condition `mean`, and keeps those that were made."""

    def make_denoiser(condition: Condition) -> Classes:
        made.append(Classes(condition[MEANS]))
        return made[-1]

    return make_denoiser


def conditioning(condition: Condition, null: Condition, given: Condition) -> Conditioning:
    """Of samples with these means; others of theirs are taken as they are given."""
    return Conditioning(
        condition, null, {**condition, **given}, encode=lambda raw: {**condition, **raw}
    )


def means(subject: ComponentUnderTest, count: int, purpose: str) -> dict[str, Tensor]:
    """Means of data, drawn for this purpose."""
    shape = (count, *subject.fixtures.shape)
    generator = subject.generator(purpose)
    return {MEANS: torch.randn(shape, generator=generator, dtype=torch.float64)}
