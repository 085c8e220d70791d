"""The runner of samplers: it consumes the trajectory and owns everything around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffkit.assembly.conditions import SampleConditions
from diffkit.assembly.latents import LatentSpace
from diffkit.assembly.network import without_autocast
from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import SampleNoise
from diffkit.core.process import ForwardProcess
from diffkit.core.sampler import Sampler, State
from diffkit.errors import ComponentError, SpecError
from diffkit.helpers.progress import Progress

_END = object()
"""Of a trajectory: a sampler that forgets to return anything yields None."""


@dataclass(frozen=True)
class SamplingRun:
    """Everything that a trajectory from noise to `num` samples needs, but the seed."""

    num: int
    denoiser: Callable[[SampleConditions, Mapping[str, Tensor]], Denoiser]
    """The guided denoiser of some samples, started for a trajectory with these inputs."""
    sampler: Sampler
    process: ForwardProcess
    times: Sequence[float]
    shape: tuple[int, ...]
    """Of each state."""
    sample_shape: tuple[int, ...]
    """Of what comes out: the same, unless states are latents."""
    device: torch.device
    condition: SampleConditions = field(default_factory=lambda: SampleConditions({}, {}))
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    latents: LatentSpace | None = None
    tokens: bool = False
    """Whether states are whole numbers."""

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
        if self.num % self.sampler.group:
            problems.append(
                f"num is {self.num}, and {type(self.sampler).__name__} looks at "
                f"{self.sampler.group} samples together; ask for a multiple of that"
            )
        condition = {**self.condition.raw, **self.condition.model}
        for what, tensors in (("condition", condition), ("inputs", self.inputs)):
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
            condition = SampleConditions(*(self._rows_of(told, rows) for told in self.condition))
            given = {name: condition.raw[name] for name in self.process.prior_takes}
            found = self.process.prior((len(rows), *self.shape), noise, given)
            x = self._checked_prior(found, len(rows))
            denoiser = self.denoiser(condition, inputs)
        yield State(x, self.times[0])
        states: Iterator[object] = iter(
            self.sampler.trajectory(denoiser, x, self.times, noise, inputs)
        )
        went = False
        while True:
            # Around each step alone: a mode left on across a yield would leak to the consumer.
            with torch.no_grad(), without_autocast(self.device):
                state = next(states, _END)
            if state is _END and went:
                return
            went = True
            yield self._checked(state, x)

    def _checked_prior(self, found: object, count: int) -> Tensor:
        """What a process gives as the first state of so many samples. Raises ComponentError."""
        wanted = (count, *self.shape)
        numbers = "int64" if self.tokens else "floating-point numbers"
        if (
            isinstance(found, Tensor)
            and tuple(found.shape) == wanted
            and (found.dtype == torch.int64 if self.tokens else found.is_floating_point())
        ):
            return found
        gives = type(found).__name__
        if isinstance(found, Tensor):
            gives = f"{found.dtype} {list(found.shape)}".removeprefix("torch.")
        raise ComponentError(
            f"process: the prior of {type(self.process).__name__} gives {gives}, and should give "
            f"{numbers} {list(wanted)}"
        )

    def _checked(self, found: object, x: Tensor) -> State:
        """What a sampler yields, where it is a state of all samples. Raises ComponentError."""
        name = type(self.sampler).__name__
        if not isinstance(found, State):
            gives = "nothing" if found is _END else f"{type(found).__name__}, and not a State"
            raise ComponentError(f"sampler: {name} yields {gives}; does its step return a State?")
        if found.x.shape != x.shape:
            raise ComponentError(
                f"sampler: {name} yields a state of the shape {list(found.x.shape)}, and the "
                f"samples have {list(x.shape)}; tell its authors"
            )
        if found.x.is_floating_point() != x.is_floating_point():
            raise ComponentError(
                f"sampler: {name} yields {found.x.dtype}, and the prior of "
                f"{type(self.process).__name__} gives {x.dtype}; if it hands on what the "
                "process's reverse gives, mend that"
            )
        return found

    def batches(
        self, seed: int, rows: range, size: int, progress: Progress
    ) -> Iterator[tuple[range, Tensor]]:
        """Finished samples on the host, `size` at a time or the whole groups in it, with their
        numbers.
        """
        steps, group = len(self.times) - 1, self.sampler.group
        size = max(size - size % group, group)
        for start in range(0, len(rows), size):
            part, x = rows[start : start + size], torch.empty(0)
            for done, state in enumerate(self.states(seed, part)):
                x = state.x
                progress.update((steps * start + done * len(part)) / (steps * len(rows)), "")
            yield part, decoded(self.latents, x).cpu()

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


def decoded(latents: LatentSpace | None, x: Tensor) -> Tensor:
    """The samples of states, which are latents or the samples themselves."""
    if latents is None:
        return x
    with torch.no_grad():
        return latents.decode(x)
