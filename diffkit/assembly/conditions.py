"""Conditions on their way from people to the encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from diffkit.assembly.components import Components
from diffkit.assembly.condition_flow import ConditionFlow
from diffkit.assembly.prepared_data import check_apart, prepared_batch
from diffkit.core.encoder import ConditionGroup, Encoder, Given
from diffkit.core.guidance import Guidance
from diffkit.core.loss import Batch
from diffkit.core.model import Condition
from diffkit.core.process import ForwardProcess
from diffkit.core.text import TEXT_LENGTH, as_text
from diffkit.errors import ComponentError, DataError, SpecError


class SampleConditions(NamedTuple):
    """The conditions of some samples, a row each or one for all, on the host."""

    model: Condition
    """Prepared by the encoder, and beside them what passes to the model as it is."""
    raw: Condition
    """As they were given: those that guidance and the process take."""


def conditions_of(
    given: Given,
    parts: Components,
    guidance: Guidance | None = None,
    process: ForwardProcess | None = None,
) -> SampleConditions:
    """What was given for a trajectory, prepared; what was left out is what stands for none.

    `guidance` and `process` are those that take conditions too.

    Raises:
        SpecError: the names are not those that are taken.
        DataError: a value is none that the encoder knows.
    """
    flow = parts.flow
    needed = (
        *(() if guidance is None else guidance.takes),
        *(() if process is None else process.prior_takes),
    )
    optional = () if guidance is None else guidance.may_take
    absent = _absent(given, flow, needed, parts.encoder)
    known = {*flow.taken, *flow.added, *needed, *optional}
    if absent is None or set(given) - known:
        raise SpecError([_taken_are({*flow.taken, *needed}, optional, given)])
    raw = {name: _declared(name, value, flow) for name, value in given.items()}
    also = {name: raw[name] for name in (*needed, *optional) if name in raw}
    passed = {name: raw[name] if name in raw else _null_of(name, flow) for name in flow.passed}
    told = _prepared_of(raw, parts, absent)
    check_apart(told, passed)
    return SampleConditions({**passed, **told}, also)


def encoded_in_place(
    raw: Condition, rows: Condition, system: _Encodes, device: torch.device
) -> Condition:
    """The conditions as the network takes them, with these raw ones in the place of rows' own.

    `rows` are prepared, on the device. Raises SpecError, DataError: see `Conditioning.encoded`.
    """
    parts, flow = system.parts, system.parts.flow
    absent = _absent(raw, flow, (), parts.encoder, complete=False)
    if absent is None or set(raw) - set(flow.taken):
        raise SpecError([_taken_are(set(flow.taken), (), raw)])
    host = {name: value.cpu() for name, value in raw.items()}
    told = _prepared_of(host, parts, absent, fill=False)
    told |= {name: host[name] for name in flow.passed if name in host}
    count = max(len(value) for value in rows.values())
    new = {name: value.to(device) for name, value in told.items()}
    return system.encoded({**rows, **rows_of(new, count)})


class _Encodes(Protocol):
    """The system, which is made of components and comes after this."""

    parts: Components

    def encoded(self, prepared: Condition) -> Condition: ...


def _absent(
    given: Mapping[str, Any],
    flow: ConditionFlow,
    needed: Sequence[str],
    encoder: Encoder | None,
    complete: bool = True,
) -> list[ConditionGroup] | None:
    """The groups of an encoder's conditions that were left out; None where others are missing."""
    groups = () if encoder is None else encoder.groups()
    if any(0 < sum(name in given for name in g.takes) < len(g.takes) for g in groups):
        return None
    null = {n for n in flow.null if flow.declared is None or n in flow.declared}
    without = null | flow.added.keys()
    missing = [n for n in (*flow.passed, *needed) if n not in given and n not in without]
    if missing and complete:
        return None
    return [group for group in groups if not any(name in given for name in group.takes)]


def _prepared_of(
    raw: Condition, parts: Components, absent: list[ConditionGroup], fill: bool = True
) -> dict[str, Tensor]:
    """What the encoder makes of these; what stands for none, of the groups that were left out."""
    encoder, takes = parts.encoder, parts.flow.encoder or ()
    if encoder is None:
        return {}
    own = {name: raw[name] for name in takes if name in raw}
    told = dict(encoder.prepare(own)) if own else {}
    if not absent or not fill:
        return told
    null = encoder.null(1)
    return {**told, **{name: null[name] for group in absent for name in group.prepared}}


def null_of(name: str, like: Tensor, flow: ConditionFlow) -> Tensor:
    """What stands for no condition of a name that passes to the model as it is."""
    return torch.full_like(like, flow.null[name])


def _null_of(name: str, flow: ConditionFlow) -> Tensor:
    """One row of it. Raises SpecError where its shape is not known."""
    if name in flow.added:
        return torch.zeros(1, *flow.added[name])
    info = (flow.declared or {}).get(name)
    if info is None:
        raise SpecError(
            [
                f"condition.{name} was left out, and what stands for none has a shape that no "
                "dataset declares; give it"
            ]
        )
    return torch.full((1, *info.shape), flow.null[name], dtype=getattr(torch, info.dtype))


def prepared_conditions(given: Given, parts: Components, count: int) -> Batch:
    """Raw conditions of so many samples in training, as those of a dataset's batch are prepared.

    In a batch without data. Raises:
        SpecError: a value is no tensor, text or whole number.
        DataError: one that is taken is missing, or has not a row for each sample.
    """
    raw = {name: _declared(name, value, parts.flow) for name, value in given.items()}
    for name, value in raw.items():
        if value.ndim == 0 or len(value) != count:
            raise DataError(
                f"condition.{name} has the shape {list(value.shape)}, and there are {count} samples"
            )
    return prepared_batch(Batch(torch.empty(count, 0), raw), parts)


def _taken_are(wanted: set[str], optional: Sequence[str], given: Mapping[str, Any]) -> str:
    may = f" (and if wanted {', '.join(optional)})" if optional else ""
    return (
        f"the conditions taken are: {', '.join(sorted(wanted)) or 'none'}{may}; "
        f"given: {', '.join(given) or 'none'}"
    )


def rows_of(condition: Condition, count: int) -> dict[str, Tensor]:
    """One row repeated for each of so many samples; or their rows, as they are.

    Raises ComponentError where they are of another number.
    """
    for name, value in condition.items():
        if len(value) not in (1, count):
            raise ComponentError(
                f"condition.{name} has {len(value)} rows, and {count} samples are asked about; "
                "give a row for each of them, or one for all"
            )
    return {name: value.expand(count, *value.shape[1:]) for name, value in condition.items()}


def _declared(name: str, value: Any, flow: ConditionFlow) -> Tensor:
    """A condition as people give it, as a tensor. Raises SpecError, DataError: it is none, or not
    what the data declare. What an encoder takes, the encoder looks at.
    """
    told, info = _as_tensor(name, value, flow), (flow.declared or {}).get(name)
    if info is None or info.text or name in (flow.encoder or ()):
        return told
    if told.dtype == torch.uint8 and info.dtype != "uint8" and not isinstance(value, Tensor):
        raise DataError(f"condition.{name} is a text, and the data have {info.dtype}: {value!r}")
    if tuple(told.shape[1:]) != tuple(info.shape):
        raise DataError(
            f"condition.{name} has the shape {list(told.shape)}, and the data have "
            f"{['n', *info.shape]}, a row for each sample or one for all".replace("'", "")
        )
    dtype = getattr(torch, info.dtype)
    if told.dtype == dtype:
        return told
    if told.is_floating_point() and not dtype.is_floating_point:
        raise DataError(f"condition.{name} is {told.dtype}, and the data have {dtype}")
    return told.to(dtype)


def _as_tensor(name: str, value: Any, flow: ConditionFlow) -> Tensor:
    """A condition as people give it, as a tensor: of the dtype that the data declare."""
    if isinstance(value, Tensor):
        return value
    items: list[Any] = [value]
    if isinstance(value, Iterable) and not isinstance(value, str):
        items = list(value)
    if items and all(isinstance(item, str) for item in items):
        texts = [str(item) for item in items]
        # What is too long for an encoder, the encoder cuts off.
        return as_text(texts, max(TEXT_LENGTH, *(len(text.encode()) for text in texts)))
    info = (flow.declared or {}).get(name)
    if items and all(isinstance(item, Integral) for item in items):
        dtype = torch.int64 if info is None else getattr(torch, info.dtype)
        return torch.tensor([int(item) for item in items], dtype=dtype)
    whole = info is not None and info.dtype != "float32"
    if items and all(isinstance(item, Real) for item in items):
        if whole:
            raise SpecError(
                [f"condition.{name}: {items[0]} is no whole number, and the data have whole ones"]
            )
        return torch.tensor([float(item) for item in items], dtype=torch.float32)
    raise SpecError([f"condition.{name} is a tensor, texts or numbers, one or a list"])
