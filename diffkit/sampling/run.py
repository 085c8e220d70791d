"""The runner of samplers: it consumes the trajectory and owns everything around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import torch
from torch import Tensor

from diffkit.assembly.build import Assembly, swapped
from diffkit.assembly.conditions import conditions_of, rows_of
from diffkit.assembly.latents import LatentSpace
from diffkit.assembly.network import without_autocast
from diffkit.assembly.system import System
from diffkit.config.spec import Compilation, Precision
from diffkit.core.clipping import ClippedDenoiser
from diffkit.core.component import Component
from diffkit.core.denoiser import DataRange, Denoiser, GaussianDenoiser, Preconditioning
from diffkit.core.encoder import Given
from diffkit.core.guidance import Conditioning, Guidance
from diffkit.core.model import Condition, Network
from diffkit.core.noise import SampleNoise
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler, State
from diffkit.core.spacing import Spacing
from diffkit.errors import ComponentError, SpecError
from diffkit.helpers.progress import Progress
from diffkit.plugins.host import Host

Choice = str | Mapping[str, Any] | Component
"""A component to use instead: its name, its `{id, config}`, or an instance."""


class SamplingOptions(TypedDict, total=False):
    """What can be chosen for a trajectory; `Pipeline.sample` says what each is."""

    sampler: Choice | None
    steps: int | None
    spacing: Choice | None
    schedule: Choice | None
    process: Choice | None
    guidance: Choice | None
    condition: Given | None
    inputs: Mapping[str, Tensor] | None
    precision: Precision | None
    compile: Compilation | None
    clip: bool | None


@dataclass(frozen=True)
class SamplingRun:
    """Everything that a trajectory from noise to `num` samples needs, but the seed."""

    num: int
    denoiser: Callable[[Condition, Mapping[str, Tensor]], Denoiser]
    """The guided denoiser of some samples, started for a trajectory with these inputs."""
    sampler: Sampler
    process: ForwardProcess
    times: Sequence[float]
    shape: tuple[int, ...]
    """Of each state."""
    sample_shape: tuple[int, ...]
    """Of what comes out: the same, unless states are latents."""
    device: torch.device
    condition: Condition = field(default_factory=dict)
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    latents: LatentSpace | None = None

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
            denoiser = self.denoiser(self._rows_of(self.condition, rows), inputs)
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
        return found

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


_CONTINUOUS_STEPS = 1000
_END = object()
"""Of a trajectory: a sampler that forgets to return anything yields None."""


def plan_sampling(
    assembly: Assembly,
    host: Host,
    system: System,
    num: int,
    choices: SamplingOptions,
    network: Network,
) -> SamplingRun:
    """A trajectory of `system`, with the choices for its own parts, and `network` running its
    model.

    Raises:
        SpecError: a choice is wrong, or does not go with the rest.
        ComponentError: the trajectory needs a noise level that the network never saw.
    """
    steps = choices.get("steps")
    asked: dict[str, Choice | None] = {
        "sampler": choices.get("sampler"),
        "spacing": choices.get("spacing"),
        "schedule": choices.get("schedule"),
        "process": choices.get("process"),
        "guidance": choices.get("guidance"),
    }
    given = {kind: choice for kind, choice in asked.items() if choice is not None}
    settings = assembly.blueprint.settings
    assert settings is not None
    chosen = swapped(assembly, system.parts, given, host)
    sampler, spacing, process = chosen["sampler"], chosen["spacing"], chosen["process"]
    assert isinstance(sampler, Sampler)
    assert isinstance(spacing, Spacing)
    assert isinstance(process, ForwardProcess)
    schedule = process.schedule
    count = steps or settings.steps or schedule.steps or _CONTINUOUS_STEPS
    times = spacing.times(count, schedule)
    if isinstance(process, GaussianProcess):
        with torch.no_grad():
            times = process.levels(times)
    given_conditions = choices.get("condition") or {}
    guidance = _guidance_for(chosen["guidance"], given, bool(given_conditions))
    takes = () if guidance is None else guidance.takes
    conditions = conditions_of(given_conditions, system.parts, takes)

    clip_to = range_to_clip_to(choices.get("clip"), settings.clip, system, process)
    device = system.device
    with torch.no_grad():
        first = {name: value[:1].to(device) for name, value in conditions.items()}
        unplanned = _guided(system, process, network, guidance, clip_to, {})
        unplanned(first, {}).check_times(sampler.query_times(times, process))
        table = _table(system, process, times)
    return SamplingRun(
        num=num,
        denoiser=_guided(system, process, network, guidance, clip_to, table),
        sampler=sampler,
        process=process,
        times=times,
        shape=system.parts.shape,
        sample_shape=system.parts.sample_shape,
        latents=system.parts.latents,
        device=device,
        condition=conditions,
        inputs=choices.get("inputs") or {},
    )


def _guided(
    system: System,
    process: ForwardProcess,
    network: Network,
    guidance: Guidance | None,
    clip_to: DataRange | None,
    table: Mapping[float, Preconditioning],
) -> Callable[[Condition, Mapping[str, Tensor]], Denoiser]:
    """The denoiser of a trajectory, guided, clipped and started, for conditions as they are
    prepared.
    """

    def denoiser(rows: Condition, inputs: Mapping[str, Tensor]) -> Denoiser:
        def make_denoiser(condition: Condition) -> Denoiser:
            # Started here too, so that guidance which knows nothing of that loses nothing.
            found = system.denoiser(process, condition, network, table)
            return found.start(_as_often(inputs, condition))

        encoded = system.encoded(rows)
        if guidance is None:
            found = make_denoiser(encoded)
        else:
            conditioning = Conditioning(encoded, _null(system, rows), rows, system.parts.encoder)
            found = guidance.guide(make_denoiser, conditioning).start(inputs)
        return found if clip_to is None else ClippedDenoiser(found, clip_to)

    return denoiser


def _table(
    system: System, process: ForwardProcess, times: Sequence[float]
) -> Mapping[float, Preconditioning]:
    """How the network is asked at the times of a trajectory."""
    parts = system.parts
    if not isinstance(parts.process, GaussianProcess) or not isinstance(process, GaussianProcess):
        return {}
    denoiser = GaussianDenoiser(parts.model, parts.parameterization, parts.process, process)
    return denoiser.table(times)


def _as_often(inputs: Mapping[str, Tensor], condition: Condition) -> Mapping[str, Tensor]:
    """The inputs for as many samples as the condition has rows: a batch may hold each in turn."""
    count = max((len(value) for value in condition.values()), default=0)
    return {
        name: torch.cat([value] * (count // len(value))) if count > len(value) > 0 else value
        for name, value in inputs.items()
    }


def range_to_clip_to(
    chosen: bool | None, of_spec: bool, system: System, process: ForwardProcess
) -> DataRange | None:
    """The range that predictions are clipped to; None where they are not.

    The spec's `clip` is of data that have a range, and of Gaussian processes. Raises SpecError
    where clipping was asked for and there is none.
    """
    data_range = system.parts.data_range
    if not (of_spec if chosen is None else chosen):
        return None
    if data_range is not None and isinstance(process, GaussianProcess):
        return data_range
    if not chosen:
        return None
    if system.parts.latents is not None:
        why = "the samples are latents, which have no range; what they decode to is clipped anyway"
    elif data_range is None:
        why = "the data declare no range to clip to; set data.range"
    else:
        why = f"{type(process).__name__} is no Gaussian process"
    raise SpecError([f"clip is true, and {why}; or leave clip out"])


def _guidance_for(
    chosen: Component | None, given: Mapping[str, Choice], conditional: bool
) -> Guidance | None:
    """The guidance of a trajectory. Without a condition the spec's own is
    dropped, as it has no effect.

    Raises SpecError where one was asked for.
    """
    if chosen is None:
        return None
    assert isinstance(chosen, Guidance)
    if conditional or not (chosen.needs_null or chosen.takes):
        return chosen
    if "guidance" in given:
        raise SpecError(
            [
                f"guidance: {type(chosen).__name__} leads towards a condition, and none is given; "
                "give condition (--prompt, --label)"
            ]
        )
    return None


def _null(system: System, rows: Condition) -> Condition:
    """What stands for no condition, encoded, for as many samples as these rows."""
    encoder = system.parts.encoder
    if encoder is None or not rows:
        return {}
    some = next(iter(rows.values()))
    null = {name: value.to(some.device) for name, value in encoder.null(1).items()}
    return rows_of(system.encoded(null), len(some))
