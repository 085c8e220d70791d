"""The laws of learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterator

from diffkit.core.learning_rate import LearningRate
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import require

_STEPS = (1, 2, 3, 7, 100, 10_000, 1_000_000)


def _asked() -> Iterator[tuple[int, int]]:
    """Updates of short and long trainings, the first and the last among them."""
    for steps in _STEPS:
        places = {0, 1, steps // 3, steps // 2, steps - 2, steps - 1}
        yield from ((step, steps) for step in sorted(places) if 0 <= step < steps)


@check
def rates_are_finite_and_not_negative(subject: ComponentUnderTest) -> None:
    """Every rate of a training of any length is finite and at least 0."""
    law: LearningRate = subject.make()
    for step, steps in _asked():
        rate = law.rate(step, steps)
        require(
            0.0 <= rate < math.inf,
            f"the rate of update {step} of {steps}",
            measured=rate,
            expected="finite, and at least 0",
            why="the trainer ends a run at any other",
        )


@check
def rates_are_host_numbers(subject: ComponentUnderTest) -> None:
    """A rate is a Python float."""
    law: LearningRate = subject.make()
    for step, steps in _asked():
        rate = law.rate(step, steps)
        require(
            type(rate) is float,
            f"the rate of update {step} of {steps}",
            measured=type(rate).__name__,
            expected="float",
            why="a tensor would be waited for at every update",
        )


@check
def a_rate_depends_on_its_update_alone(subject: ComponentUnderTest) -> None:
    """Asked in another order, and of another instance, the rates are the same."""
    asked = list(_asked())
    law: LearningRate = subject.make()
    forwards = {pair: law.rate(*pair) for pair in asked}
    other: LearningRate = subject.make()
    backwards = {pair: other.rate(*pair) for pair in reversed(asked)}
    apart = [pair for pair in asked if forwards[pair] != backwards[pair]]
    require(
        not apart,
        "rates that depend on what was asked before",
        measured=[f"update {step} of {steps}" for step, steps in apart[:3]],
        expected="none",
        why="a run that is resumed asks from the middle on",
    )


@check
def some_update_moves(subject: ComponentUnderTest) -> None:
    """The rate is above 0 at half of the updates of a training at least."""
    law: LearningRate = subject.make()
    rates = [law.rate(step, 1000) for step in range(1000)]
    count = sum(rate > 0 for rate in rates)
    require(
        count >= 500,
        "updates of 1000 whose rate is above 0",
        measured=count,
        expected="500 at least",
    )


CHECKS: tuple[Check, ...] = (
    rates_are_finite_and_not_negative,
    rates_are_host_numbers,
    a_rate_depends_on_its_update_alone,
    some_update_moves,
)
