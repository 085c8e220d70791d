"""The runner of samplers: it consumes the walk and owns everything around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import torch
from torch import Tensor

from diffkit.assembly.build import Assembler
from diffkit.assembly.network import Compilation, Precision
from diffkit.assembly.swap import swapped
from diffkit.assembly.system import System
from diffkit.core.component import Component
from diffkit.core.denoiser import Asking, Denoiser, GaussianDenoiser
from diffkit.core.model import Condition, Network
from diffkit.core.noise import SampleNoise
from diffkit.core.process import ForwardProcess
from diffkit.core.sampler import Sampler, State
from diffkit.core.spacing import Spacing
from diffkit.errors import SpecError
from diffkit.run.progress import Progress

Choice = str | Mapping[str, Any] | Component
"""A component to use instead: its name, its `{id, config}`, or an instance."""


class WalkChoices(TypedDict, total=False):
    """What can be chosen for a walk; `Pipeline.sample` says what each is."""

    sampler: Choice | None
    steps: int | None
    spacing: Choice | None
    schedule: Choice | None
    process: Choice | None
    condition: Condition | None
    inputs: Mapping[str, Tensor] | None
    precision: Precision | None
    compile: Compilation | None


@dataclass(frozen=True)
class Walk:
    """Everything that a walk from noise to `num` samples needs, but the seed."""

    num: int
    denoiser: Callable[[Condition], Denoiser]
    sampler: Sampler
    process: ForwardProcess
    times: Sequence[float]
    shape: tuple[int, ...]
    device: torch.device
    condition: Condition = field(default_factory=dict)
    inputs: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in self.sampler.inputs if name not in self.inputs]
        extra = [name for name in self.inputs if name not in self.sampler.inputs]
        problems = []
        if missing or extra:
            takes = ", ".join(self.sampler.inputs) or "none"
            problems.append(
                f"{type(self.sampler).__name__} takes the inputs: {takes}; "
                f"given: {', '.join(self.inputs) or 'none'}"
            )
        for what, tensors in (("condition", self.condition), ("inputs", self.inputs)):
            problems += [
                f"{what}.{name} has the shape {list(value.shape)}; it needs one row for each of "
                f"the {self.num} samples, or one for all"
                for name, value in tensors.items()
                if value.ndim == 0 or value.shape[0] not in (1, self.num)
            ]
        if problems:
            raise SpecError(problems)

    def states(self, seed: int, rows: range) -> Iterator[State]:
        """Each state for these of the samples, the prior first; no gradients are kept."""
        noise = SampleNoise(seed=seed, indices=rows, device=self.device)
        inputs = self._rows_of(self.inputs, rows)
        with torch.no_grad():
            x = self.process.prior((len(rows), *self.shape), noise)
            denoiser = self.denoiser(self._rows_of(self.condition, rows)).start(inputs)
        yield State(x, self.times[0])
        walk = self.sampler.walk(denoiser, x, self.times, noise, inputs)
        while True:
            # Around each step alone: a mode left on across a yield would leak to the consumer.
            with torch.no_grad():
                state = next(walk, None)
            if state is None:
                return
            yield state

    def batches(
        self, seed: int, rows: range, size: int, progress: Progress
    ) -> Iterator[tuple[range, Tensor]]:
        """Finished samples on the host, `size` at a time, with their numbers."""
        steps = len(self.times) - 1
        for start in range(0, len(rows), size):
            part, x = rows[start : start + size], torch.empty(0)
            for done, state in enumerate(self.states(seed, part)):
                x = state.x
                progress.update((steps * start + done * len(part)) / (steps * len(rows)), "")
            yield part, x.cpu()

    def _rows_of(self, tensors: Mapping[str, Tensor], rows: range) -> dict[str, Tensor]:
        """One row a sample, on the device."""
        return {
            name: (
                value.expand(len(rows), *value.shape[1:])
                if value.shape[0] == 1
                else value[rows.start : rows.stop]
            ).to(self.device)
            for name, value in tensors.items()
        }


_CONTINUOUS_STEPS = 1000


def chosen_walk(
    assembler: Assembler, system: System, num: int, choices: WalkChoices, network: Network
) -> Walk:
    """A walk of `system`, with the choices for its own parts, and `network` running its model.

    Raises:
        SpecError: a choice is wrong, or does not go with the rest.
        ComponentError: the walk needs a noise level that the network never saw.
    """
    steps = choices.get("steps")
    if steps is not None and steps < 1:
        raise SpecError([f"steps is at least 1, not {steps}"])
    asked: dict[str, Choice | None] = {
        "sampler": choices.get("sampler"),
        "spacing": choices.get("spacing"),
        "schedule": choices.get("schedule"),
        "process": choices.get("process"),
    }
    given = {kind: choice for kind, choice in asked.items() if choice is not None}
    chosen = swapped(assembler, given)
    sampler, spacing, walked = chosen["sampler"], chosen["spacing"], chosen["process"]
    assert isinstance(sampler, Sampler)
    assert isinstance(spacing, Spacing)
    assert isinstance(walked, ForwardProcess)
    if not given.keys() & {"schedule", "process"}:
        walked = system.parts.process  # The average holds a copy of its own.
    schedule = walked.schedule
    count = steps or assembler.spec.steps or schedule.steps or _CONTINUOUS_STEPS
    times = spacing.times(count, schedule)
    conditions = _known(choices.get("condition") or {}, system.parts.conditions)

    memo: dict[float, Asking] = {}

    def denoiser(rows: Condition) -> Denoiser:
        return system.denoiser(walked, rows, network, memo)

    checked = denoiser(conditions)
    if isinstance(checked, GaussianDenoiser):
        checked.check_range(times, system.parts.model_steps)
    return Walk(
        num=num,
        denoiser=denoiser,
        sampler=sampler,
        process=walked,
        times=times,
        shape=system.parts.shape,
        device=next(system.parameters()).device,
        condition=conditions,
        inputs=choices.get("inputs") or {},
    )


def _known(given: Condition, taken: Sequence[str]) -> Condition:
    """The conditions given. Raises SpecError where they are not those that the model takes."""
    if set(given) != set(taken):
        raise SpecError(
            [
                f"the model takes the conditions: {', '.join(taken) or 'none'}; "
                f"given: {', '.join(given) or 'none'}"
            ]
        )
    return given
