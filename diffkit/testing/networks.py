"""What the laws of networks are measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diffkit.assembly.choice_facts import filled_in
from diffkit.assembly.read_choice import read_choice
from diffkit.config.spec import ComponentSpec, DataSpec
from diffkit.core.component import Config
from diffkit.core.model import Condition, EpsilonModel, Output
from diffkit.core.parameterization import TIME_SCALE
from diffkit.errors import ComponentError
from diffkit.testing.component_under_test import CannotBeMade, ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require, within

_GRID = 1000
_FEW = 25
ROWS = 4
"""Samples that networks are asked about."""
# Of the output's size. Sums of float64 taken in another order differ by 1e-16 a term; networks
# add up many of them many times over. A row that sees another differs in the first digits.
ROUNDING = 1e-9
_WHY_ROUNDING = "in float64 only the order of sums may differ, 1e-16 of their size"


@dataclass(frozen=True)
class Input:
    """What a network is asked."""

    x: Tensor
    """Numbers, or tokens in int64."""
    c_noise: Tensor
    condition: Condition

    def rows(self, chosen: list[int]) -> Input:
        """These samples of it."""
        condition = {name: value[chosen] for name, value in self.condition.items()}
        return Input(self.x[chosen], self.c_noise[chosen], condition)

    def float(self) -> Input:
        """The same in float32, whatever is a number of it."""
        condition = {name: _in(torch.float32, value) for name, value in self.condition.items()}
        return Input(_in(torch.float32, self.x), self.c_noise, condition)


def _in(dtype: torch.dtype, value: Tensor) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def trained(subject: ComponentUnderTest) -> EpsilonModel:
    """The network in float64 and eval mode, moved off its zeros."""
    network: EpsilonModel = subject.make()
    generator = subject.generator("moved")
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                # By fan-in, so that wide layers do not drown what they were initialised with.
                inputs = parameter[0].numel() if parameter.ndim > 1 else _FEW
                step = 0.5 / inputs**0.5
                parameter.add_(step * torch.randn(parameter.shape, generator=generator))
    return network.double().eval()


def input_of(subject: ComponentUnderTest, count: int, dtype: torch.dtype = torch.float64) -> Input:
    """Samples, noise levels from end to end, and the conditions that the network declares.

    Samples of tokens are those that data have: whether noisy ones have more, the process knows.
    """
    facts = facts_of(subject)
    shape, generator = (count, *subject.fixtures.shape), subject.generator("x")
    if (vocabulary := subject.vocabulary_of(subject.cls)) is None:
        x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    else:
        x = torch.randint(vocabulary, shape, generator=generator)
    grid = facts.get("steps") or _GRID
    levels = TIME_SCALE / grid * torch.linspace(1, grid, count).round()
    offered, condition = subject.fixtures.condition(count), {}
    for name in facts.get("conditions", ()):
        if name not in offered:
            raise ComponentError(
                f"the network declares the condition {name!r}, and the fixtures offers "
                f"{sorted(offered) or 'none'}; give `Example(conditions={{{name!r}: ...}})`"
            )
        condition[name] = _in(dtype, offered[name])
    # A second time is before t: that of half the index.
    condition |= dict.fromkeys(facts.get("times", ()), 0.5 * levels)
    # Networks are told the noise level in float32, whatever they compute in.
    return Input(x, levels, condition)


def facts_of(subject: ComponentUnderTest) -> Mapping[str, Any]:
    """What the component so configured says of itself."""
    return subject.cls.facts(config_of(subject))


def config_of(subject: ComponentUnderTest) -> Config:
    """The configuration, checked, with its defaults, as `facts` sees it. Raises CannotBeMade."""
    subject.cls  # noqa: B018 - imported, or an error that says why not
    reference = ComponentSpec(id=subject.entry.id, config=dict(subject.config))
    choice, problems = read_choice(subject.kind, reference, subject.host, {}, subject.entry.id)
    if problems or choice is None:
        raise CannotBeMade("; ".join(problem.text for problem in problems))
    return filled_in(choice, DataSpec(shape=subject.fixtures.shape), {})


def at_neighbours(subject: ComponentUnderTest) -> Input:
    """One sample at runs of eight neighbouring noise levels."""
    grid = facts_of(subject).get("steps") or _GRID
    if grid == 1:
        raise NotApplicable("it knows one noise level only")
    # Near 250 and 500 lie the k whose k/1000, times 1000, falls below k in float32.
    starts = (0.0, 0.248 * grid, 0.499 * grid, 0.7 * grid, grid - 8.0)
    runs = [torch.arange(1, 9) + max(int(start), 0) for start in starts]
    k = torch.unique(torch.cat(runs).clamp(max=grid))
    return replace(input_of(subject, 1).rows([0] * len(k)), c_noise=TIME_SCALE / grid * k.float())


def asked(network: EpsilonModel, given: Input) -> Tensor:
    """The output, without gradients."""
    with torch.no_grad():
        return output_of(network(given.x, given.c_noise, given.condition))


def output_of(found: Tensor | Output) -> Tensor:
    """The output, without what came beside it."""
    return found.output if isinstance(found, Output) else found


def another(name: str, value: Tensor, row: int) -> Tensor:
    """The condition of another sample that differs from this one's."""
    others: list[Tensor] = list(value)
    for other in others:
        if not torch.equal(other, value[row]):
            return other
    raise ComponentError(
        f"the fixtures gives {len(value)} samples the same condition {name!r}; make them differ"
    )


def shares_apart(measured: Tensor, expected: Tensor) -> Tensor:
    """How far apart the rows are, as shares of the largest number."""
    size = torch.maximum(measured.abs().max(), expected.abs().max()).clamp(min=1e-300)
    return (measured - expected).abs().flatten(1).amax(1) / size


def same(what: str, measured: Tensor, expected: Tensor) -> None:
    """Raise LawBroken where outputs differ by more than the order of sums can."""
    size = float(expected.abs().max())
    within(what, measured, expected, ROUNDING * size, _WHY_ROUNDING)


def different(what: str, measured: Tensor, expected: Tensor) -> None:
    """Raise LawBroken where all outputs are alike."""
    apart = float(shares_apart(measured, expected).max())
    found, wanted = f"{apart:.3g} of the output's size apart", f"more than {ROUNDING:g}"
    require(apart > ROUNDING, what, measured=found, expected=wanted, why=_WHY_ROUNDING)


def only_changes(what: str, row: int, before: Tensor, after: Tensor) -> None:
    """Raise LawBroken unless this sample's output changed, and no other's."""
    others = [other for other in range(ROWS) if other != row]
    same(f"the other samples after a change of {what}", after[others], before[others])
    different(f"the sample itself after a change of {what}", after[[row]], before[[row]])


def effect_of_tokens(subject: ComponentUnderTest, network: EpsilonModel, given: Input) -> Tensor:
    """By coordinate, the largest change of the output where its token is the next one."""
    count, vocabulary = given.x[0].numel(), subject.vocabulary_of(subject.cls) or 1
    step = torch.eye(count, dtype=torch.int64).reshape(count, *given.x.shape[1:])
    found = torch.zeros(count, dtype=torch.float64)
    for row in range(ROWS):
        one = given.rows([row] * count)
        output = asked(network, replace(one, x=(one.x + step) % vocabulary))
        plain = asked(network, given.rows([row])).expand_as(output)
        apart = shares_apart(output, plain)
        found = torch.maximum(found, torch.where(apart > ROUNDING, apart, 0.0))
    return found
