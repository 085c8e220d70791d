"""What is asked of a pipeline, checked before any work: each argument by its name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any, Literal, cast, get_args

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from diffkit.arguments import (
    instance,
    one_of,
    path,
    plain,
    refused,
    several,
    shown,
    truth,
    whole,
)
from diffkit.assembly.build import SWAPPABLE
from diffkit.config.signature import as_json, explained
from diffkit.config.spec import ClipSpec, Compilation, Precision
from diffkit.core.component import Component
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.errors import SpecError
from diffkit.evaluation.samples import MeasuringOptions
from diffkit.sampling.options import SamplingOptions
from diffkit.training.start import TrainingOptions

MOST_STEPS = 1_000_000
_SEEDS = 2**63
_FLOAT32 = 4


def checked_num(value: Any) -> int:
    """How many samples. Raises SpecError."""
    return whole(value, "num", least=1, below=_SEEDS)


def checked_steps(value: Any) -> int:
    """Steps of a trajectory. Raises SpecError."""
    return whole(value, "steps", least=1, below=MOST_STEPS + 1)


def checked_seed(value: Any) -> int:
    """What randomness starts from. Raises SpecError."""
    return whole(value, "seed", least=0, below=_SEEDS)


def checked_show(value: Any) -> bool | None:
    """Whether to show a bar. Raises SpecError."""
    return None if value is None else truth(value, "progress")


def checked_observers(value: Any) -> tuple[object, ...]:
    """Who is told of a run. Raises SpecError."""
    found = several(value, "observers", "objects with @diffkit.hookimpl methods,")
    for observer in found:
        if not any(name.startswith("diffkit_") for name in dir(observer)):
            raise refused("observers", observer, "objects with methods that are hooks, diffkit_...")
    return found


def named_observers(value: Any) -> tuple[list[Any], tuple[object, ...]]:
    """Those that are named as in a spec, and those that are objects. Raises SpecError."""
    given = several(value, "observers", "names of observers, or objects with hooks,")
    named = [one for one in given if isinstance(one, str | Mapping)]
    return named, tuple(one for one in given if not isinstance(one, str | Mapping))


def checked_training_options(
    dataset: Any, out: Any, resume: Any, checkpoint: Any, observers: Any, progress: Any
) -> TrainingOptions:
    """The arguments of training that are no fields of a spec. Raises SpecError."""
    if dataset is not None:
        instance(dataset, "dataset", Dataset, "a Dataset (diffkit.core.dataset), or None")
    return TrainingOptions(
        out=None if out is None else path(out, "out"),
        resume=truth(resume, "resume"),
        checkpoint=checked_checkpoint(checkpoint),
        observers=checked_observers(observers),
        progress=checked_show(progress),
    )


def check_own_batch(x_0: Any, condition: Any, module: Any) -> None:
    """Raise SpecError where what a loop of one's own gives to `loss` is none of that."""
    instance(x_0, "x_0", Tensor, "a tensor of samples, [b, *shape]")
    if condition is not None:
        instance(condition, "condition", Mapping, "a mapping from names to values")
    if module is not None:
        instance(module, "module", nn.Module, "what wraps pipeline.system, a torch module")


def check_named_state(name: Any, state: Any) -> None:
    """Raise SpecError where these are no name and no state of an average."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise refused("name", name, "a name of letters, digits and '_' for the average")
    instance(state, "state", Mapping, "the average's tensors by name, as those of system")
    for key, value in state.items():
        instance(value, f"state.{key}", Tensor, "a tensor")


def checked_checkpoint(value: Any) -> Literal["last", "best"] | int:
    """Which checkpoint. Raises SpecError."""
    found = plain(value)
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    return one_of(found, "checkpoint", ("last", "best"), also="the number of updates of one")


def checked_average(value: Any) -> str | None:
    """The name of an average, or None. Raises SpecError."""
    if value is None:
        return None
    if value == "":
        raise refused("average", value, "the name of an average")
    name: str = instance(value, "average", str, "the name of an average")
    return name


def checked_device(value: Any) -> torch.device:
    """A device of torch's that is there. Raises SpecError."""
    try:
        device = torch.device(plain(value))
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        allowed = "device is one of torch's that is there, as 'cpu' or 'cuda:0'"
        raise SpecError([f"{allowed}, not {shown(value)}: {reason}"]) from error
    return device


def checked_choices(choices: SamplingOptions) -> SamplingOptions:
    """The choices for a trajectory, with plain numbers. Raises SpecError, or TypeError for no
    choice.
    """
    if unknown := choices.keys() - SamplingOptions.__annotations__.keys():
        raise TypeError(f"there is no choice {', '.join(sorted(unknown))} of a trajectory")
    found: dict[str, Any] = {k: v for k, v in choices.items() if v is not None}
    if "steps" in found:
        found["steps"] = checked_steps(found["steps"])
    for name, kind in (("precision", Precision), ("compile", Compilation)):
        if name in found:
            found[name] = one_of(found[name], name, get_args(kind))
    if "clip" in found:
        found["clip"] = checked_clip(found["clip"])
    checked_average(found.get("average"))
    for name in SWAPPABLE:
        if name in found:
            checked_component(found[name], name)
    if "condition" in found:
        instance(found["condition"], "condition", Mapping, "a mapping from names to values")
    if "inputs" in found:
        _check_tensors(found["inputs"])
    return cast(SamplingOptions, found)


def checked_clip(value: Any) -> bool | ClipSpec:
    """Whether to clip, or how. Raises SpecError."""
    if isinstance(value, ClipSpec):
        return value
    if not isinstance(value, Mapping):
        return truth(value, "clip")
    try:
        return ClipSpec.model_validate_json(as_json(value))
    except ValidationError as error:
        raise SpecError(explained(error, "clip", ClipSpec.model_fields)) from error
    except (ValueError, RecursionError) as error:
        raise SpecError([f"clip: {error}"]) from error


def checked_measuring_options(
    samples: Any, of: Any, num: Any, others: Mapping[str, Any], seed: Any, choices: SamplingOptions
) -> MeasuringOptions:
    """The arguments of measuring. Raises SpecError."""
    if samples is not None:
        instance(samples, "samples", Tensor, "a tensor of samples, [n, *shape], or None")
    if of is not None:
        instance(of, "of", Batch, "a batch of data with conditions, or None")
    return MeasuringOptions(
        samples=samples,
        of=of,
        num=None if num is None else checked_num(num),
        others={kind: checked_component(choice, kind) for kind, choice in others.items()},
        seed=checked_seed(seed),
        choices=checked_choices(choices),
    )


def check_memory(what: str, count: int, shape: tuple[int, ...], instead: str) -> None:
    """Raise SpecError for more samples at once than this machine has memory for."""
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return
    needed = count * prod(shape) * _FLOAT32
    if needed > there:
        asked = f"{what} = {count} samples of the shape {list(shape)} are {needed / 2**30:.3g} GiB"
        raise SpecError([f"{asked}, and this machine has {there / 2**30:.3g}; {instead}"])


@contextmanager
def memory_explained(what: str) -> Iterator[None]:
    """Within, running out of memory is a SpecError that says which argument to lower."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        said = str(error).splitlines() or ["out of memory"]
        host = "can't allocate memory" in said[0]
        if not host and not isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise
        raise SpecError(
            [f"{what} takes more memory than there is ({said[0]}); lower it"]
        ) from error


_COMPONENT = "a component: its name, its {id, config}, or an instance"


def checked_component(value: Any, name: str) -> Any:
    """A component as people name it, or None. Raises SpecError."""
    if value is None:
        return None
    return instance(value, name, str | Mapping | Component, _COMPONENT)


def _check_tensors(inputs: Any) -> None:
    instance(inputs, "inputs", Mapping, "a mapping from names to tensors")
    for name, value in inputs.items():
        instance(value, f"inputs.{name}", Tensor, "a tensor, one row a sample")
