"""The laws of optimisers."""

from __future__ import annotations

import copy
import json

import torch
from torch import Tensor, nn

from diffkit.errors import ComponentError, DiffkitError
from diffkit.storage.optimizer_state import OptimizerState, supports_found_inf
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import LawBroken, NotApplicable, require
from diffkit.testing.usages.training import named_weights, one_update, updates_of
from diffkit.training.optimizer import Updates, made_optimizer


@check
def every_weight_is_taken_once(subject: ComponentUnderTest) -> None:
    """Of any weights, `make` gives a torch optimiser that has each of them once."""
    whole = named_weights(subject)
    sets = [whole, *({name: weight} for name, weight in whole.items())]
    for named in sets:
        try:
            made_optimizer(subject.make(), named)
        except ComponentError as error:
            raise LawBroken(
                f"an optimiser of {', '.join(named)}",
                measured=error,
                expected="a torch.optim.Optimizer of exactly these",
                why="a weight that no update reaches stays random, and nobody is told",
            ) from error


@check
def updates_descend(subject: ComponentUnderTest) -> None:
    """Small updates lower the squared norm of the weights, by their own gradient."""
    named = named_weights(subject)
    updates = updates_of(subject.make(), named, 1e-3)
    before = _squares(named)
    for step in range(20):
        for weight in named.values():
            weight.grad = 2.0 * weight.detach()
        updates.set_rate(step, 20)
        updates.apply(torch.ones(()))
    after = _squares(named)
    worse = [name for name in named if not after[name] < before[name]]
    require(
        not worse,
        "the squared norm of weights after 20 updates along their gradient",
        measured=", ".join(f"{n}: {before[n]:.4g} to {after[n]:.4g}" for n in worse),
        expected="less than before, of each",
        why="an optimiser goes downhill; is a sign wrong, or a group's multiple 0?",
    )


@check
def a_rate_of_zero_changes_nothing(subject: ComponentUnderTest) -> None:
    """An update whose learning rate is 0 leaves the weights as they are."""
    named = named_weights(subject)
    updates = updates_of(subject.make(), named, 0.1)
    one_update(updates, named, 0)
    before = {name: weight.detach().clone() for name, weight in named.items()}
    for group in updates.optimizer.param_groups:
        group["lr"] = 0.0
    updates.optimizer.step()
    moved = [name for name, weight in named.items() if not torch.equal(weight, before[name])]
    require(
        not moved,
        "weights that an update of rate 0 moved",
        measured=", ".join(moved),
        expected="none",
        why="the trainer sets the rate in each group's `lr`, which has to scale all that is done",
    )


@check
def what_has_no_gradient_stays(subject: ComponentUnderTest) -> None:
    """A weight without a gradient is left as it is, and the others are updated."""
    named = named_weights(subject)
    updates = updates_of(subject.make(), named, 0.1)
    left, *others = named
    before = {name: weight.detach().clone() for name, weight in named.items()}
    for name in others:
        named[name].grad = torch.ones_like(named[name])
    updates.set_rate(0, 10)
    updates.apply(torch.ones(()))
    require(
        torch.equal(named[left], before[left]),
        f"the weight {left}, whose gradient is None",
        measured="moved",
        expected="as it was",
    )
    idle = [name for name in others if torch.equal(named[name], before[name])]
    require(not idle, "weights that an update did not move", measured=idle, expected="none")


@check
def its_state_goes_on_bit_by_bit(subject: ComponentUnderTest) -> None:
    """Written to a checkpoint and read into a new optimiser, training goes on to the bit."""
    named = named_weights(subject)
    updates = updates_of(subject.make(), named, 0.1)
    for step in range(3):
        one_update(updates, named, step)
    other = {name: nn.Parameter(weight.detach().clone()) for name, weight in named.items()}
    again = updates_of(subject.make(), other, 0.1)
    try:
        _carry_over(updates, again)
    except DiffkitError as error:
        raise LawBroken(
            "its state after three updates",
            measured=error,
            expected="one that a checkpoint holds, and that a new optimiser takes",
        ) from error
    for step in range(3, 6):
        one_update(updates, named, step)
        one_update(again, other, step)
    apart = [name for name in named if not torch.equal(named[name], other[name])]
    require(
        not apart,
        "weights that differ after the run was resumed",
        measured=", ".join(apart),
        expected="none",
        why="what it keeps must be in its `state` and `param_groups`, not beside them",
    )


@check
def what_is_not_finite_changes_nothing(subject: ComponentUnderTest) -> None:
    """An optimiser that says it looks at `found_inf` changes nothing where that is 1."""
    named = named_weights(subject)
    updates = updates_of(subject.make(), named, 0.1)
    if not supports_found_inf(updates.optimizer):
        raise NotApplicable("it does not look at found_inf; the host leaves such updates out")
    one_update(updates, named, 0)
    before = {name: weight.detach().clone() for name, weight in named.items()}
    state = copy.deepcopy(updates.slots.read())
    for weight in named.values():
        weight.grad = torch.full_like(weight, torch.nan)
    updates.set_rate(1, 10)
    updates.apply(torch.tensor(torch.nan))
    after = updates.slots.read().tensors
    moved = [name for name, weight in named.items() if not torch.equal(weight, before[name])]
    moved += [name for name, value in state.tensors.items() if not torch.equal(value, after[name])]
    require(
        not moved,
        "what an update with gradients that are not finite changed",
        measured=", ".join(moved),
        expected="nothing",
    )


def _squares(named: dict[str, nn.Parameter]) -> dict[str, float]:
    return {name: float(weight.detach().double().square().sum()) for name, weight in named.items()}


def _carry_over(one: Updates, other: Updates) -> None:
    read = one.slots.read()
    tensors = {name: value.clone() for name, value in read.tensors.items()}
    record = json.loads(json.dumps(read.record))

    def laid_out(value: Tensor, like: Tensor) -> Tensor:
        return torch.empty_like(like, dtype=value.dtype).copy_(value)

    other.slots.load(OptimizerState(tensors, record), "its state", laid_out)


CHECKS: tuple[Check, ...] = (
    every_weight_is_taken_once,
    updates_descend,
    a_rate_of_zero_changes_nothing,
    what_has_no_gradient_stays,
    its_state_goes_on_bit_by_bit,
    what_is_not_finite_changes_nothing,
)
