"""The laws of optimisers."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from diffkit.errors import ComponentError, DiffkitError
from diffkit.storage.optimizer_state import OptimizerState, supports_found_inf
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import LawBroken, NotApplicable, require
from diffkit.testing.usages.training import named_weights, one_update, updates_of
from diffkit.training.optimizer import Updates, made_optimizer

_STEPS = 20


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
    updated = _Updated(subject, rate=1e-3)
    before = _squares(updated.weights)
    for step in range(20):
        updated.along({n: 2.0 * w.detach() for n, w in updated.weights.items()}, step)
    after = _squares(updated.weights)
    worse = [name for name in before if not after[name] < before[name]]
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
    updated = _Updated(subject)
    updated.once(0)
    before = updated.copies()
    for group in updated.updates.optimizer.param_groups:
        group["lr"] = 0.0
    updated.updates.optimizer.step()
    _require_none(
        updated.other_than(before),
        "weights that an update of rate 0 moved",
        why="the trainer sets the rate in each group's `lr`, which has to scale all that is done",
    )


@check
def what_has_no_gradient_stays(subject: ComponentUnderTest) -> None:
    """A weight without a gradient is left as it is, and the others are updated."""
    updated = _Updated(subject)
    before = updated.copies()
    left, *others = before
    updated.along({name: torch.ones_like(before[name]) for name in others}, 0)
    moved = updated.other_than(before)
    require(
        left not in moved,
        f"the weight {left}, whose gradient is None",
        measured="moved",
        expected="as it was",
    )
    idle = [name for name in others if name not in moved]
    _require_none(idle, "weights that an update did not move")


@check
def its_state_goes_on_bit_by_bit(subject: ComponentUnderTest) -> None:
    """Written to a checkpoint and read into a new optimiser, training goes on to the bit."""
    updated = _Updated(subject)
    for step in range(3):
        updated.once(step)
    again = _Updated(subject, weights=updated.copies())
    try:
        _carry_over(updated.updates, again.updates)
    except DiffkitError as error:
        raise LawBroken(
            "its state after three updates",
            measured=error,
            expected="one that a checkpoint holds, and that a new optimiser takes",
        ) from error
    for step in range(3, 6):
        updated.once(step)
        again.once(step)
    _require_none(
        updated.other_than(again.copies()),
        "weights that differ after the run was resumed",
        why="what it keeps must be in its `state` and `param_groups`, not beside them",
    )


@check
def what_is_not_finite_changes_nothing(subject: ComponentUnderTest) -> None:
    """An optimiser that says it looks at `found_inf` changes nothing where that is 1."""
    updated = _Updated(subject)
    if not supports_found_inf(updated.updates.optimizer):
        raise NotApplicable("it does not look at found_inf; the host leaves such updates out")
    updated.once(0)
    before = updated.copies()
    state = copy.deepcopy(updated.updates.slots.read().tensors)
    updated.along({n: torch.full_like(w, torch.nan) for n, w in before.items()}, 1, torch.nan)
    _require_none(
        [*updated.other_than(before), *_other(updated.updates.slots.read().tensors, state)],
        "what an update with gradients that are not finite changed",
    )


class _Updated:
    """Weights, and the updates that the component's optimiser makes of them."""

    def __init__(
        self,
        subject: ComponentUnderTest,
        *,
        rate: float = 0.1,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        given = named_weights(subject) if weights is None else weights
        self.weights = {name: nn.Parameter(weight.detach()) for name, weight in given.items()}
        self.updates = updates_of(subject.make(), self.weights, rate)

    def once(self, step: int) -> None:
        """On gradients that depend on the weights and on the step."""
        one_update(self.updates, self.weights, step)

    def along(self, gradients: Mapping[str, Tensor], step: int, norm: float = 1.0) -> None:
        """On these; a weight that is left out has none."""
        for name, weight in self.weights.items():
            weight.grad = gradients.get(name)
        self.updates.set_rate(step, _STEPS)
        self.updates.apply(torch.tensor(norm))

    def copies(self) -> dict[str, Tensor]:
        """The weights as they are now."""
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    def other_than(self, before: Mapping[str, Tensor]) -> list[str]:
        """The weights that are not as they were, by name."""
        return _other(self.weights, before)


def _other(now: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> list[str]:
    return [name for name, value in before.items() if not torch.equal(now[name], value)]


def _require_none(names: Sequence[str], what: str, why: str = "") -> None:
    require(not names, what, measured=", ".join(names), expected="none", why=why)


def _squares(weights: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach().double().square().sum()) for name, value in weights.items()}


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
