"""What went into a component, and what came out."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffkit.core.noise import SampleNoise
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
