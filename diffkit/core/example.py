"""Example: how a component is tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from diffkit.core.process import ForwardProcess


@dataclass(frozen=True)
class Example:
    """One way to try a component: its configuration, and what it is tried with.

    Args:
        config: its arguments, as a spec has them.
        code: those that only code can give (`InCode`), and runs: `Run.of(small_pipeline)`.
        shape: of one sample; None: [1, 8, 8], and for a sampler two numbers.
        conditions: by name, what a model that takes conditions is given: a function of the number
            of samples.
        inputs: by name, what a sampler asks for beside noise: a tensor with one row, for samples
            of `shape`.
        process: makes the process that a component is made with, or is tried with where it is for
            others than Gaussian ones; None: a variance-preserving one.
        vocabulary: how many tokens there are, where samples are tokens.
        extras: by name, what a network gives beside its output, where a loss or a sampler needs it:
            a function of the number of samples.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    conditions: Mapping[str, Callable[[int], Tensor]] = field(default_factory=dict)
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    process: Callable[[], ForwardProcess] | None = None
    vocabulary: int | None = None
    extras: Mapping[str, Callable[[int], Tensor]] = field(default_factory=dict)
