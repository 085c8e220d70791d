"""The laws of networks that take conditions."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from diffkit.core.encoder import MASK, TOKENS
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require
from diffkit.testing.networks import (
    ROWS,
    another,
    asked,
    facts_of,
    input_of,
    only_changes,
    same,
    trained,
)


@check
def conditions_have_an_effect(subject: ComponentUnderTest) -> None:
    """Each declared condition has an effect, on its own sample and on no other."""
    network = trained(subject)
    given = input_of(subject, ROWS)
    if not given.condition:
        raise NotApplicable("it takes no conditions")
    before = asked(network, given)
    for name, value in given.condition.items():
        for row in (0, ROWS - 1):
            changed = value.clone()
            changed[row] = another(name, value, row)
            after = asked(network, replace(given, condition={**given.condition, name: changed}))
            only_changes(f"the condition {name!r} of sample {row}", row, before, after)


@check
def null_is_of_conditions_that_it_takes(subject: ComponentUnderTest) -> None:
    """What it declares to stand for no condition is a number, of one that it takes, and is seen."""
    facts = facts_of(subject)
    null = facts.get("null") or {}
    if not null:
        raise NotApplicable("it declares nothing that stands for no condition")
    network, given = trained(subject), input_of(subject, ROWS)
    before = asked(network, given)
    for name, number in null.items():
        require(
            name in given.condition and isinstance(number, int | float) and math.isfinite(number),
            f"the fact 'null' of {name!r}",
            measured=repr(number),
            expected=f"a number, for one of {sorted(given.condition)}",
            why="dropout fills the condition of that name with it",
        )
        filled = torch.full_like(given.condition[name], number)
        after = asked(network, replace(given, condition={**given.condition, name: filled}))
        require(
            bool(after.isfinite().all()) and not torch.equal(after, before),
            f"the output with {name!r} filled with {number}",
            measured="not finite" if not bool(after.isfinite().all()) else "the same",
            expected="finite, and another than with the condition",
            why="what stands for none must not stand for one of them too",
        )


@check
def tokens_that_do_not_count_change_nothing(subject: ComponentUnderTest) -> None:
    """Of the condition `tokens`, those that `mask` leaves out have no effect."""
    network = trained(subject)
    given = input_of(subject, ROWS)
    if not {TOKENS, MASK} <= set(given.condition):
        raise NotApplicable("it takes no tokens")
    tokens, mask = given.condition[TOKENS], given.condition[MASK].clone()
    mask[:, -1] = False
    mask[:, 0] = True
    changed = tokens.clone()
    changed[:, -1] += 1.0
    first, second = (
        asked(network, replace(given, condition={**given.condition, TOKENS: t, MASK: mask}))
        for t in (tokens, changed)
    )
    same("the output after a change of tokens that do not count", second, first)


CHECKS: tuple[Check, ...] = (
    conditions_have_an_effect,
    null_is_of_conditions_that_it_takes,
    tokens_that_do_not_count_change_nothing,
)
