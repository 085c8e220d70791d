"""Conditions that are replaced by what stands for none, so that guidance can ask without them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from diffkit.assembly.components import Components
from diffkit.assembly.condition_flow import Dropout, dropout_problem
from diffkit.core.encoder import ConditionGroup
from diffkit.core.model import Condition
from diffkit.core.noise import mix
from diffkit.errors import SpecError

_RATE = 0.1
"""Ho & Salimans (2022), table 1: between 0.1 and 0.2 is best."""


class ConditionDropout:
    """Drops conditions, after the encoder has prepared them and before the loss.

    One rate is of all conditions of a sample together, by numbers that the caller draws; rates by
    name are each on their own, by numbers of the name, the seed and the update.

    Raises:
        SpecError: a condition cannot be dropped, or not without another.
    """

    def __init__(self, wanted: Dropout, parts: Components, seed: int, device: torch.device) -> None:
        flow, encoder = parts.flow, parts.encoder
        if problem := dropout_problem(wanted, flow):
            raise SpecError([problem])
        groups = () if encoder is None else encoder.groups()
        null = {} if encoder is None else encoder.null(1)
        self._null: dict[str, Tensor] = {name: v.to(device) for name, v in null.items()}
        self._numbers = dict(flow.null)
        own = [ConditionGroup((name,), (name,)) for name in flow.null]
        self._groups, self._seed = (*groups, *own), seed
        self._rates: dict[str, float] | None = None
        self._rate = 0.0
        if isinstance(wanted, Mapping):
            self._rates = {"+".join(g.takes): _rate_of(g, wanted) for g in self._groups}
        elif self._groups:
            self._rate = _RATE if wanted is None else wanted

    def __call__(
        self, condition: Condition, rows: range, size: int, step: int, host: torch.Generator
    ) -> Condition:
        """The conditions of these rows of a batch of so many, some of them dropped.

        `host` gives the numbers where one rate is of all.
        """
        if self._rates is None:
            if not self._rate:
                return condition
            drawn = torch.rand(size, generator=host)[rows.start : rows.stop]
            names = [name for group in self._groups for name in group.prepared]
            return self._dropped(condition, drawn < self._rate, names)
        for group in self._groups:
            key = "+".join(group.takes)
            if not self._rates[key]:
                continue
            own = torch.Generator().manual_seed(mix(self._seed, "condition dropout", key, step))
            drawn = torch.rand(size, generator=own)[rows.start : rows.stop]
            condition = self._dropped(condition, drawn < self._rates[key], group.prepared)
        return condition

    def _dropped(
        self, condition: Condition, chosen: Tensor, names: tuple[str, ...] | list[str]
    ) -> Condition:
        found = dict(condition)
        for name in names:
            value = found[name]
            there = chosen.to(value.device, non_blocking=True)
            there = there.reshape(-1, *[1] * (value.ndim - 1))
            if name in self._null:
                found[name] = torch.where(there, self._null[name], value)
            else:
                found[name] = value.masked_fill(there, self._numbers[name])
        return found


def _rate_of(group: ConditionGroup, rates: Mapping[str, float]) -> float:
    """Of the conditions of a group, which are dropped together."""
    found = {rates.get(name, 0.0) for name in group.takes}
    if len(found) > 1:
        raise SpecError(
            [
                f"training.condition_dropout: the encoder drops {', '.join(group.takes)} together; "
                "give them one rate"
            ]
        )
    return found.pop()
