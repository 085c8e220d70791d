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
from diffkit.testing.laws import NotApplicable

_GRID = 1000
_FEW = 25


@dataclass(frozen=True)
class Input:
    """What a network is asked."""

    x: Tensor
    c_noise: Tensor
    condition: Condition

    def rows(self, chosen: list[int]) -> Input:
        """These samples of it."""
        condition = {name: value[chosen] for name, value in self.condition.items()}
        return Input(self.x[chosen], self.c_noise[chosen], condition)

    def float(self) -> Input:
        """The same in float32, whatever is a number of it."""
        condition = {
            name: value.float() if value.is_floating_point() else value
            for name, value in self.condition.items()
        }
        return Input(self.x.float(), self.c_noise, condition)


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
    """Samples, noise levels from end to end, and the conditions that the network declares."""
    facts = facts_of(subject)
    if subject.fixtures.vocabulary is not None:
        raise NotApplicable("it looks at tokens, and the kit tries networks of numbers")
    shape = (count, *subject.fixtures.shape)
    x = torch.randn(shape, generator=subject.generator("x"), dtype=torch.float64).to(dtype)
    grid = facts.get("steps") or _GRID
    levels = TIME_SCALE / grid * torch.linspace(1, grid, count).round()
    offered, condition = subject.fixtures.condition(count), {}
    for name in facts.get("conditions", ()):
        if name not in offered:
            raise ComponentError(
                f"the network declares the condition {name!r}, and the fixtures offers "
                f"{sorted(offered) or 'none'}; give `Fixtures(conditions={{{name!r}: ...}})`"
            )
        value = offered[name]
        condition[name] = value.to(dtype) if value.is_floating_point() else value
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
