"""What went into a component, and what came out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffkit.core.noise import SampleNoise
from diffkit.errors import ComponentError
from diffkit.testing.component_under_test import ComponentUnderTest

COUNT = 4
"""Samples of an exercise."""


@dataclass
class Usage:
    """What a component was given, with copies from before, and what it gave back."""

    outputs: dict[str, Tensor] = field(default_factory=dict)
    _given: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def give(self, name: str, value: Tensor) -> Tensor:
        """The value, with a copy kept."""
        self._given[name] = (value, value.clone())
        return value

    def changed(self) -> list[str]:
        """The names of the inputs that were written to."""
        return [name for name, (now, then) in self._given.items() if not torch.equal(now, then)]


def noise_for(subject: ComponentUnderTest, dtype: torch.dtype) -> SampleNoise:
    """The noise of an exercise."""
    return SampleNoise(seed=subject.seed_for("exercise"), indices=range(COUNT), dtype=dtype)


def samples_for(subject: ComponentUnderTest, dtype: torch.dtype, count: int = COUNT) -> Tensor:
    """Samples as a pipeline would give them: tokens, where the component's are."""
    shape = (count, *subject.fixtures.shape)
    if (vocabulary := subject.vocabulary_of(subject.cls)) is not None:
        return torch.randint(vocabulary, shape, generator=subject.generator("samples"))
    return 0.8 * torch.randn(shape, generator=subject.generator("samples")).to(dtype)


def rows_of(whole: Tensor, count: int) -> Tensor:
    """What is drawn for so many samples. Raises ComponentError as a training does for too many."""
    if count > len(whole):
        raise ComponentError(
            f"loss: it draws for {count} samples, and its batch has {len(whole)}; draw for "
            "len(batch), and more than once for more numbers a sample (draw_uniform)"
        )
    return whole[:count]


def uniform_numbers(whole: Tensor) -> Callable[[int], Tensor]:
    """Numbers in [0, 1), other ones at each call; the first are those that are given."""
    calls = itertools.count()
    return lambda count: rows_of((whole + 0.37 * next(calls)) % 1.0, count)
