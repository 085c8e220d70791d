"""The laws of averages."""

from __future__ import annotations

import torch
from torch import Tensor

from diffkit.assembly.training import is_track_name
from diffkit.core.average import Average
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require, within

_UPDATES = 20_000
_FLOAT32 = 1e-5
"""Sums of so many float32 numbers of about 1, each rounded to 6e-8, as random walks."""


def _held(average: Average, start: Tensor) -> dict[str, list[Tensor]]:
    return {track: [start.clone(), start[:2].clone()] for track in average.tracks()}


def _weights(subject: ComponentUnderTest, step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(subject.seed_for(f"weights {step}"))
    return [torch.rand(5, generator=generator), torch.rand(2, generator=generator)]


@check
def tracks_are_names_of_files(subject: ComponentUnderTest) -> None:
    """The tracks have different names, of letters, digits, dots and dashes, always the same."""
    average: Average = subject.make()
    tracks = average.tracks()
    good = isinstance(tracks, tuple) and len(set(tracks)) == len(tracks) > 0
    good = good and all(is_track_name(f"a-{track}") for track in tracks)
    require(good, "the tracks", measured=tracks, expected="different names of files, at least one")
    require(
        tracks == subject.make().tracks() == average.tracks(),
        "the tracks, asked again",
        measured=average.tracks(),
        expected=tracks,
    )


@check
def equal_weights_stay(subject: ComponentUnderTest) -> None:
    """The average of weights that never change is these weights."""
    average: Average = subject.make()
    same = torch.linspace(-1.0, 1.0, 5)
    held = _held(average, same)
    for step in range(2000):
        average.update(held, [same.clone(), same[:2].clone()], step)
    for track, (tensor, _) in held.items():
        why = "shares that do not add up to 1 shrink or blow up a network"
        within(f"the average {track}".strip(), tensor, same, _FLOAT32, why)


@check
def it_lies_between_the_weights(subject: ComponentUnderTest) -> None:
    """Each number of an average lies between the least and the largest that it had."""
    average: Average = subject.make()
    held = _held(average, torch.full((5,), 0.5))
    least, largest = torch.full((5,), 0.5), torch.full((5,), 0.5)
    for step in range(300):
        weights = _weights(subject, step)
        least, largest = least.minimum(weights[0]), largest.maximum(weights[0])
        average.update(held, weights, step)
        for track, (tensor, _) in held.items():
            outside = (least - tensor).maximum(tensor - largest).max()
            require(
                bool(outside <= 1e-6),
                f"the average {track} after update {step}",
                measured=f"{float(outside):.3g} beyond the weights",
                expected="between the least and the largest weight so far",
                why="an average extrapolates nothing",
            )


@check
def it_follows(subject: ComponentUnderTest) -> None:
    """Weights that changed once, at the beginning, are most of the average in the end."""
    average: Average = subject.make()
    held = {track: [torch.zeros(1)] for track in average.tracks()}
    one = [torch.ones(1)]
    for step in range(_UPDATES):
        average.update(held, one, step)
    for track, (tensor,) in held.items():
        require(
            bool(tensor > 0.5),
            f"the average {track} of ones after {_UPDATES} updates, from zeros",
            measured=float(tensor),
            expected="more than 0.5",
            why="one that never follows samples as the network did at the beginning",
        )


@check
def an_update_depends_on_its_number_alone(subject: ComponentUnderTest) -> None:
    """A new instance goes on from the averages that another left, to the bit."""
    average: Average = subject.make()
    held = _held(average, torch.zeros(5))
    for step in range(20):
        average.update(held, _weights(subject, step), step)
    again = {track: [tensor.clone() for tensor in tensors] for track, tensors in held.items()}
    other: Average = subject.make()
    for step in range(20, 30):
        average.update(held, _weights(subject, step), step)
        other.update(again, _weights(subject, step), step)
    apart = [t for t in held if not all(map(torch.equal, held[t], again[t]))]
    require(
        not apart,
        "averages that differ after the run was resumed",
        measured=apart,
        expected="none",
        why="it keeps nothing itself: what an update does follows from its number",
    )


@check
def weights_are_not_written(subject: ComponentUnderTest) -> None:
    """The weights in training are left as they are, unless the class declares otherwise."""
    average: Average = subject.make()
    if average.writes_weights:
        raise NotApplicable("the class declares writes_weights = True")
    held = _held(average, torch.zeros(5))
    for step in range(10):
        weights = _weights(subject, step)
        before = [tensor.clone() for tensor in weights]
        average.update(held, weights, step)
        require(
            all(map(torch.equal, weights, before)),
            f"the weights in training after update {step}",
            measured="changed",
            expected="as they were",
            why="a class may declare writes_weights = True",
        )


CHECKS: tuple[Check, ...] = (
    tracks_are_names_of_files,
    equal_weights_stay,
    it_lies_between_the_weights,
    it_follows,
    an_update_depends_on_its_number_alone,
    weights_are_not_written,
)
