"""The runner of samplers: it consumes the walk and owns everything around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffkit.assembly.build import Assembler
from diffkit.assembly.swap import swapped
from diffkit.assembly.system import System
from diffkit.core.denoiser import Denoiser, GaussianDenoiser
from diffkit.core.model import Condition
from diffkit.core.noise import SampleNoise
from diffkit.core.process import ForwardProcess
from diffkit.core.sampler import Sampler, State
from diffkit.core.spacing import Spacing
from diffkit.errors import SpecError


@dataclass(frozen=True)
class Walk:
    """Everything that a walk from noise to data needs, but the seed and which samples."""

    denoiser: Denoiser
    sampler: Sampler
    times: Sequence[float]
    shape: tuple[int, ...]
    device: torch.device
    inputs: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in self.sampler.inputs if name not in self.inputs]
        extra = [name for name in self.inputs if name not in self.sampler.inputs]
        if missing or extra:
            takes = ", ".join(self.sampler.inputs) or "none"
            raise SpecError(
                [
                    f"{type(self.sampler).__name__} takes the inputs: {takes}; "
                    f"given: {', '.join(self.inputs) or 'none'}"
                ]
            )

    def states(self, seed: int, indices: Sequence[int]) -> Iterator[State]:
        """Each state for these samples, the prior first; no gradients are kept."""
        noise = SampleNoise(seed=seed, indices=indices, device=self.device)
        shape = (len(indices), *self.shape)
        with torch.no_grad():
            x = self.denoiser.process.prior(shape, noise)
            denoiser = self.denoiser.start(self.inputs)
        yield State(x, self.times[0])
        walk = self.sampler.walk(denoiser, x, self.times, noise, self.inputs)
        while True:
            # Around each step alone: a mode left on across a yield would leak to the consumer.
            with torch.no_grad():
                state = next(walk, None)
            if state is None:
                return
            yield state


_CONTINUOUS_STEPS = 1000


def chosen_walk(
    assembler: Assembler,
    system: System,
    choices: Mapping[str, Any],
    steps: int | None,
    condition: Condition | None,
    inputs: Mapping[str, Tensor] | None,
) -> Walk:
    """A walk of `system`, with `choices` (sampler, spacing, schedule, process) for its own parts.

    Raises:
        SpecError: a choice is wrong, or does not go with the rest.
        ComponentError: the walk needs a noise level that the network never saw.
    """
    if steps is not None and steps < 1:
        raise SpecError([f"steps is at least 1, not {steps}"])
    chosen = swapped(assembler, choices)
    sampler, spacing, walked = chosen["sampler"], chosen["spacing"], chosen["process"]
    assert isinstance(sampler, Sampler)
    assert isinstance(spacing, Spacing)
    assert isinstance(walked, ForwardProcess)
    if not choices.keys() & {"schedule", "process"}:
        walked = system.parts.process  # The average holds a copy of its own.
    schedule = walked.schedule
    count = steps or assembler.spec.steps or schedule.steps or _CONTINUOUS_STEPS
    times = spacing.times(count, schedule)
    denoiser = system.denoiser(walked, condition)
    if isinstance(denoiser, GaussianDenoiser):
        denoiser.check_range(times)
    device = next(system.parameters()).device
    return Walk(denoiser, sampler, times, system.parts.shape, device, inputs or {})
