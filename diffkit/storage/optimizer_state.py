"""The state of any optimiser as tensors and JSON, and back, bit by bit.

Each weight's state is a tree of mappings, lists and tuples whose leaves are tensors, numbers, texts
and None. Tensors go to a file, each under the weight's name, a dot and the path of the leaf; what
is left of the tree, with the paths of its tensors, is JSON. Weights whose trees are the same share
it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffkit.core.weights import fit_tensors
from diffkit.errors import CheckpointError
from diffkit.storage.optimizer_tree import LaidOut, TreeReader, TreeWriter, leaves_of

_NOT_NEGATIVE = ("step", "exp_avg_sq", "max_exp_avg_sq")
"""Of a state: counts, and means of squares, of which roots are taken."""
_GROUP = "group"
"""Begins the names of tensors among a group's settings; no weight's has a slash."""


@dataclass(frozen=True)
class OptimizerState:
    """What `OptimizerSlots` read of an optimiser."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    """JSON: its class, the trees, and what it changed of its groups' settings."""


class OptimizerSlots:
    """An optimiser whose weights have names, and whose settings are known as they were made.

    Args:
        optimizer: as it was made; no update was made yet.
        names: of all weights that it has.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str]) -> None:
        self.optimizer = optimizer
        held = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.weights = {names[weight]: weight for weight in held}
        """By name, in the order of the groups."""
        self.fused = supports_found_inf(optimizer)
        """Whether it looks at `found_inf`, and walks memory by the sizes of weights alone."""
        self._as_made = [_settings(group) for group in optimizer.param_groups]

    @property
    def groups(self) -> list[list[str]]:
        """The names of the weights of each group."""
        names = {weight: name for name, weight in self.weights.items()}
        return [[names[w] for w in group["params"]] for group in self.optimizer.param_groups]

    def read(self) -> OptimizerState:
        """Its state. Raises ComponentError where something of it no checkpoint can hold."""
        tensors: dict[str, Tensor] = {}
        trees: dict[str, list[str]] = {}
        for name, weight in self.weights.items():
            if weight not in self.optimizer.state:
                continue
            held = TreeWriter(name, self._where(name), tensors, weight)
            tree = held.node(dict(self.optimizer.state[weight]), "")
            trees.setdefault(json.dumps(tree), []).append(name)
        record = {
            "class": _class_name(self.optimizer),
            "state": [{"weights": n, "tree": json.loads(tree)} for tree, n in trees.items()],
            "groups": [self._changed(i, tensors) for i in range(len(self._as_made))],
        }
        return OptimizerState(tensors, record)

    def load(self, found: OptimizerState, where: str | Path, laid_out: LaidOut) -> None:
        """Take over what `read` gave, in whole; the settings stay as they were made.

        A fused kernel goes through weights and state side by side, and does not look at sizes: all
        is held against what such an optimiser lays out for these weights first.

        Raises:
            CheckpointError: a tensor is missing, left over, of another shape or dtype, or holds
                what no optimiser leaves there; or the state is another class's.
        """
        trees = self._checked_trees(found, where)
        state: dict[Tensor, Any] = {}
        for name, tree in trees.items():
            weight = self.weights[name]
            reader = TreeReader(name, found.tensors, weight, laid_out)
            state[weight] = reader.value(tree)
        if self.fused:
            self._check_against_own(state, where)
        self._set(state)
        for group, changed in zip(self.optimizer.param_groups, found.record["groups"], strict=True):
            reader = TreeReader(_GROUP, found.tensors, group["params"][0], laid_out)
            group.update(self._settings_in(reader.value(changed), group, where))

    def _settings_in(
        self, found: Any, group: Mapping[str, Any], where: str | Path
    ) -> Mapping[str, Any]:
        """What an optimiser changed of a group's settings; torch's fused ones change none."""
        fits = isinstance(found, dict) and not (self.fused and found)
        if not fits or any(type(v) is not type(group[k]) for k, v in found.items() if k in group):
            raise CheckpointError(
                f"{where}: the settings recorded of a group, {found!r}, are none that this "
                "optimiser leaves; take another checkpoint"
            )
        return found  # type: ignore[no-any-return]

    def _set(self, state: Mapping[Tensor, Any]) -> None:
        optimizer = self.optimizer
        if type(optimizer).load_state_dict is not torch.optim.Optimizer.load_state_dict:
            # One of its own, which may have to put things elsewhere.
            places: dict[Tensor, int] = {w: i for i, w in enumerate(self.weights.values())}
            groups = optimizer.state_dict()["param_groups"]
            numbered = {places[weight]: value for weight, value in state.items()}
            optimizer.load_state_dict({"state": numbered, "param_groups": groups})
            return
        # Torch's own would bring every tensor to the dtype of its weight.
        optimizer.state.clear()
        optimizer.state.update(state)

    def _checked_trees(self, found: OptimizerState, where: str | Path) -> dict[str, Any]:
        """The tree of each weight that has a state, once the record fits."""
        try:
            recorded = str(found.record["class"])
            trees = {
                str(n): each["tree"] for each in found.record["state"] for n in each["weights"]
            }
            count = len(found.record["groups"])
            leaves = {name: leaf for tree in trees for name, leaf in leaves_of(tree, trees[tree])}
            for group in found.record["groups"]:
                leaves |= dict(leaves_of(_GROUP, group))
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{where}: what is recorded of the optimiser's state cannot be read ({error!r}); "
                "take another checkpoint"
            ) from error
        if recorded != _class_name(self.optimizer):
            raise CheckpointError(
                f"{where} is the state of {recorded}, and the optimiser is "
                f"{_class_name(self.optimizer)}; train with the one that it was trained with"
            )
        if unknown := sorted(trees.keys() - self.weights.keys()):
            raise CheckpointError(f"{where} does not fit: it has state of {unknown[0]} besides")
        if count != len(self._as_made):
            raise CheckpointError(
                f"{where} has {count} groups of settings, and the optimiser {len(self._as_made)}"
            )
        fit_tensors(found.tensors, leaves, where, same_dtype=True)
        for name, value in found.tensors.items():
            last = name.rpartition("/")[2].rpartition(".")[2]
            if last in _NOT_NEGATIVE and not value.is_complex() and bool((value < 0).any()):
                raise CheckpointError(f"{where}: {name} holds negative numbers; take another one")
        return trees

    def _check_against_own(self, state: Mapping[Tensor, Any], where: str | Path) -> None:
        _initialise(self.optimizer)
        own = {weight: dict(value) for weight, value in self.optimizer.state.items()}
        for name, weight in self.weights.items():
            if weight in state:
                wanted = {f"{name}.{k}": v for k, v in own[weight].items() if _is_tensor(v)}
                given = {f"{name}.{k}": v for k, v in state[weight].items() if _is_tensor(v)}
                if state[weight].keys() != own[weight].keys() or given.keys() != wanted.keys():
                    keys = sorted(state[weight])
                    raise CheckpointError(
                        f"{where} does not fit: the state of {name} is {keys}, and this optimiser "
                        f"keeps {sorted(own[weight])}; its settings may be others than before"
                    )
                fit_tensors(given, wanted, where, nonfinite="allow", same_dtype=True)

    def _changed(self, place: int, tensors: dict[str, Tensor]) -> Any:
        """The settings of a group that its optimiser changed, as those that count updates."""
        group, made = self.optimizer.param_groups[place], self._as_made[place]
        changed = {
            key: value
            for key, value in _settings(group).items()
            if key not in made or not _same(value, made[key])
        }
        prefix = f"{place}"
        held = TreeWriter(_GROUP, f"the settings of group {place}", tensors, group["params"][0])
        return held.node(changed, prefix)

    def _where(self, name: str) -> str:
        return f"the state of {name}"


def supports_found_inf(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it leaves everything as it is, on the device, where its `found_inf` is 1."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {k: copy.deepcopy(v) for k, v in group.items() if k not in ("params", "lr")}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _class_name(optimizer: torch.optim.Optimizer) -> str:
    return type(optimizer).__qualname__


def _initialise(optimizer: torch.optim.Optimizer) -> None:
    """Let a fused optimiser lay out its state: by a step of length 0 with gradients of 0."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
