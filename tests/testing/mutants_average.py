"""Mistakes of averages."""

from __future__ import annotations

import torch

from diffkit.core import Average

from .mutant import Mutant


class Halves(Average):
    """A right one, with two tracks."""

    def tracks(self):
        return ("fast", "slow")

    def decay(self, step, track):
        return 0.5 if track == "fast" else min(0.99, step / (step + 1))


class Switches(Average):
    """A right one that says that it writes weights."""

    writes_weights = True

    def decay(self, step, track):
        return 0.9

    def update(self, averages, weights, step):
        super().update(averages, weights, step)
        if step % 100 == 99:
            for weight, average in zip(weights, averages[""], strict=True):
                weight.copy_(average)


class PathForAName(Halves):
    def tracks(self):
        return ("0.5/0.9", "slow")


class TwiceTheSame(Halves):
    def tracks(self):
        return ("slow", "slow")


class SharesAboveOne(Halves):
    def update(self, averages, weights, step):
        for track in averages.values():
            for average, weight in zip(track, weights, strict=True):
                average.mul_(0.9).add_(weight, alpha=0.11)


class BiasCorrectedInPlace(Halves):
    def update(self, averages, weights, step):
        super().update(averages, weights, step)
        for track in averages.values():
            for average in track:
                average.div_(1.0 - 0.5 ** (step + 1))


class Extrapolates(Halves):
    def decay(self, step, track):
        return -0.2


class WrongWay(Halves):
    """Swapped ends: little of the weight, and what is beyond it."""

    def decay(self, step, track):
        return 1.3 if step % 2 else 0.0


class NeverFollows(Halves):
    def decay(self, step, track):
        return 1.0


class DecayOfAHundredThousand(Halves):
    """One nine too many."""

    def decay(self, step, track):
        return 0.99999


class CountsItsUpdates(Halves):
    def __init__(self) -> None:
        self._count = 0

    def update(self, averages, weights, step):
        self._count += 1
        super().update(averages, weights, self._count)


class KeepsASum(Halves):
    def __init__(self) -> None:
        self._sums, self._count = {}, 0

    def update(self, averages, weights, step):
        self._count += 1
        for place, weight in enumerate(weights):
            self._sums[place] = self._sums.get(place, torch.zeros_like(weight)) + weight
            for track in averages.values():
                track[place].copy_(self._sums[place] / self._count)


class WritesWeights(Switches):
    writes_weights = False

    def update(self, averages, weights, step):
        super().update(averages, weights, step)
        if step % 7 == 6:
            weights[1].copy_(averages[""][1])


class LerpsTheOtherWay(Halves):
    def update(self, averages, weights, step):
        for track in averages.values():
            kept = [tensor.clone() for tensor in track]
            torch._foreach_lerp_(list(track), list(weights), 0.5)
            torch._foreach_lerp_(list(weights), kept, 0.01)


RIGHT = (Halves, Switches)
MUTANTS = (
    Mutant(PathForAName, "a track whose name is a path"),
    Mutant(TwiceTheSame, "two tracks of one name"),
    Mutant(SharesAboveOne, "shares that add up to more than 1"),
    Mutant(BiasCorrectedInPlace, "a correction for the beginning, applied to the average itself"),
    Mutant(Extrapolates, "beyond the weights: a negative decay"),
    Mutant(WrongWay, "beyond the average: a decay above 1"),
    Mutant(NeverFollows, "never follows"),
    Mutant(DecayOfAHundredThousand, "a nine too many, without warm-up"),
    Mutant(CountsItsUpdates, "counts its updates itself, which is lost at resume"),
    Mutant(KeepsASum, "keeps a sum of all weights, which is lost at resume"),
    Mutant(WritesWeights, "writes weights without saying so"),
    Mutant(LerpsTheOtherWay, "draws the weights to the average, too"),
)
