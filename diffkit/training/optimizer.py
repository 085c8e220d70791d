"""The optimiser of a training: made, checked, and given its learning rate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from diffkit.arguments import plain
from diffkit.assembly.training import TrainingComponents
from diffkit.core.optimizer import Optimizer
from diffkit.errors import ComponentError, DiffkitError, TrainingError
from diffkit.plugins.isolation import cause_of
from diffkit.storage.optimizer_state import OptimizerSlots

_LEAST_MULTIPLE = 0.05
"""Where all are below, somebody gave a learning rate, or left torch's default."""
_NAMED = 5


class Updates:
    """Applies gradients, at the rate that the law says.

    Args:
        components: the optimiser and the law of the learning rate.
        named: the weights that train, by name.
        warmup_steps: over how many updates the rate rises.

    Raises ComponentError: the optimiser leaves a weight out, takes one twice, or none of these.
    """

    def __init__(
        self,
        components: TrainingComponents,
        named: Mapping[str, nn.Parameter],
        warmup_steps: int,
    ) -> None:
        self._law, self._warmup = components.learning_rate, warmup_steps
        self.optimizer = made_optimizer(components.optimizer, named)
        self.slots = OptimizerSlots(self.optimizer, {w: name for name, w in named.items()})
        self._multiples = [float(group["lr"]) for group in self.optimizer.param_groups]

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of update number `step`. Raises TrainingError where it is none."""
        name = type(self._law).__name__
        try:
            given = plain(self._law.rate(step, steps))
            found = float(given) if isinstance(given, int | float) else math.nan
        except DiffkitError:
            raise
        except Exception as error:
            raise TrainingError(
                f"training.learning_rate: {name} raised {cause_of(error)} for update {step} of "
                f"{steps}, which was not made; tell its authors"
            ) from error
        if not 0.0 <= found < math.inf:
            raise TrainingError(
                f"training.learning_rate: {name} gives {given!r} for update {step} of {steps}, "
                "and a rate is a finite number that is at least 0; the update was not made. Mend "
                "it, or take another law"
            )
        if step >= self._warmup:
            return found
        return found * (step + 1) / (self._warmup + 1)

    def set_rate(self, step: int, steps: int) -> None:
        """Before an update: `lr = multiple * rate` of each group."""
        rate = self.rate(step, steps)
        for group, multiple in zip(self.optimizer.param_groups, self._multiples, strict=True):
            group["lr"] = multiple * rate

    def apply(self, norm: Tensor) -> None:
        """Update the weights, unless the norm of their gradient is not finite.

        Fused optimisers look at that on the device, and then leave everything as it is. Others
        know nothing of it, and what they change cannot be taken back: the host waits for the norm.
        """
        if self.slots.fused:
            setattr(self.optimizer, "found_inf", (~norm.isfinite()).float())  # noqa: B010
        elif not bool(norm.isfinite()):
            return
        self.optimizer.step()


def made_optimizer(
    component: Optimizer, named: Mapping[str, nn.Parameter]
) -> torch.optim.Optimizer:
    """An optimiser of exactly these weights. Raises ComponentError."""
    where = f"training.optimizer: {type(component).__name__}"
    try:
        with warnings.catch_warnings(category=UserWarning):
            warnings.filterwarnings("ignore", message=".*duplicate parameters.*")
            found = component.make(list(named.items()))
    except DiffkitError:
        raise
    except Exception as error:
        raise ComponentError(
            f"{where} cannot be made for these weights: {cause_of(error)}"
        ) from error
    if not isinstance(found, torch.optim.Optimizer):
        raise ComponentError(
            f"{where} makes a {type(found).__name__}, and not a torch.optim.Optimizer"
        )
    _check_weights(where, found, named)
    _check_multiples(where, found)
    return found


def _check_weights(
    where: str, found: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]
) -> None:
    names = {weight: name for name, weight in named.items()}
    held = [weight for group in found.param_groups for weight in group["params"]]
    times = dict.fromkeys(held, 0)
    for weight in held:
        times[weight] += 1
    missing = [name for weight, name in names.items() if weight not in times]
    twice = [names.get(weight, "one") for weight, count in times.items() if count > 1]
    foreign = [weight for weight in times if weight not in names]
    problems = []
    if missing:
        problems.append(
            f"leaves out {_listed(missing)}; give every weight to a group, or freeze it"
        )
    if twice:
        problems.append(f"takes {_listed(twice)} twice; give each weight to one group")
    if foreign:
        shapes = _listed([str(list(weight.shape)) for weight in foreign])
        problems.append(f"takes tensors that are no weights of this training, of shapes {shapes}")
    if problems:
        raise ComponentError(f"{where} {'; it '.join(problems)}")


def _check_multiples(where: str, found: torch.optim.Optimizer) -> None:
    for group in found.param_groups:
        multiple = float(group.get("lr", math.nan))
        if not 0.0 <= multiple < math.inf:
            raise ComponentError(
                f"{where} has a group with lr {multiple}; as made it is a multiple of the "
                "learning rate, 1.0 unless groups differ"
            )
    multiples = [float(group["lr"]) for group in found.param_groups]
    if max(multiples, default=1.0) < _LEAST_MULTIPLE:
        made = _listed([f"{multiple:g}" for multiple in dict.fromkeys(multiples)])
        raise ComponentError(
            f"{where} makes groups with lr {made}; as made, lr is a multiple of "
            "training.learning_rate, which says how fast weights move: make it with lr=1.0, and "
            "with other multiples where groups differ"
        )


def _listed(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
