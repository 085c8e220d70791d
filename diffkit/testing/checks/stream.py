"""The laws of datasets that are streams."""

from __future__ import annotations

import torch

from diffkit.core.loss import Batch
from diffkit.core.stream import Share, Stream
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require

_SAMPLES = 12
_POSITIONS = (1, 5, 8)


@check
def a_stream_goes_on_where_it_was(subject: ComponentUnderTest) -> None:
    """Begun at a position, it gives the samples that it gives from there on when begun at 0."""
    stream = _stream(subject)
    whole = Share(stream, 0, 1, 0).take(_SAMPLES)
    for position in _POSITIONS:
        _same(
            Share(stream, 0, 1, position).take(_SAMPLES - position),
            whole,
            list(range(position, _SAMPLES)),
            f"begun at position {position}",
        )


@check
def processes_share_a_stream(subject: ComponentUnderTest) -> None:
    """Process r of n has every n-th sample from the position on, beginning with the r-th."""
    stream = _stream(subject)
    whole = Share(stream, 0, 1, 0).take(_SAMPLES)
    for world, position in ((2, 0), (2, 4), (3, 3)):
        count = (_SAMPLES - position) // world
        for rank in range(world):
            numbers = [position + rank + world * i for i in range(count)]
            found = Share(stream, rank, world, position).take(count)
            _same(found, whole, numbers, f"process {rank} of {world} from position {position}")


def _stream(subject: ComponentUnderTest) -> Stream:
    dataset = subject.make()
    if not isinstance(dataset, Stream):
        raise NotApplicable("it is no stream")
    return dataset


def _same(found: Batch, whole: Batch, numbers: list[int], when: str) -> None:
    pairs = {"x_0": (found.x_0, whole.x_0)}
    pairs |= {n: (value, whole.condition[n]) for n, value in found.condition.items()}
    for name, (value, wanted) in pairs.items():
        require(
            torch.equal(value, wanted[numbers]),
            f"{name} of the stream, {when}",
            measured=value.flatten()[:8].tolist(),
            expected=f"that of the samples {numbers}: {wanted[numbers].flatten()[:8].tolist()}",
            why="a training that goes on, or is shared, has to see what it has not seen yet",
        )


CHECKS: tuple[Check, ...] = (a_stream_goes_on_where_it_was, processes_share_a_stream)
