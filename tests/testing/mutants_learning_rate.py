"""Mistakes of laws of the learning rate."""

from __future__ import annotations

import math

import torch

from diffkit.core import LearningRate

from .mutant import Mutant


class Triangle(LearningRate):
    """A right one: up to the middle, and down."""

    def rate(self, step, steps):
        return 1e-3 * (1.0 - abs(2.0 * step / steps - 1.0))


class Cyclic(LearningRate):
    """A right one, whatever the number of updates in all."""

    def rate(self, step, steps):
        return 1e-3 * (1.0 + math.cos(step / 10.0))


class BeyondTheEnd(LearningRate):
    def rate(self, step, steps):
        return 1e-3 * (1.0 - (step + 2) / steps)


class NothingByNothing(LearningRate):
    def rate(self, step, steps):
        return 1e-3 * (1.0 - (step / (steps - 1) if steps > 1 else math.nan))


class OverflowsLate(LearningRate):
    def rate(self, step, steps):
        return 1e-3 * 2.0**-step if step < 1000 else math.inf


class GivesATensor(LearningRate):
    def rate(self, step, steps):
        return 1e-3 * torch.cos(torch.tensor(step / steps)).abs()


class GivesWholeNumbers(LearningRate):
    def rate(self, step, steps):
        return 1 if step < steps // 2 else 0.5


class CountsCalls(LearningRate):
    def __init__(self) -> None:
        self._calls = 0

    def rate(self, step, steps):
        self._calls += 1
        return 1e-3 / self._calls


class KeepsTheLargest(LearningRate):
    """Of another instance, asked from the end on, it is another."""

    def __init__(self) -> None:
        self._last = 0

    def rate(self, step, steps):
        self._last = max(self._last, step)
        return 1e-3 / (1 + self._last)


class FirstUpdateAlone(LearningRate):
    def rate(self, step, steps):
        return 1e-3 if step == 0 else 0.0


class PercentForShare(LearningRate):
    """Falls over a hundredth of training."""

    def rate(self, step, steps):
        return 1e-3 * max(0.0, 1.0 - 100.0 * step / steps)


RIGHT = (Triangle, Cyclic)
MUTANTS = (
    Mutant(BeyondTheEnd, "off by two: below 0 at the last update"),
    Mutant(NothingByNothing, "no number in a training of one update"),
    Mutant(OverflowsLate, "infinity late in long trainings"),
    Mutant(GivesATensor, "rates as tensors"),
    Mutant(GivesWholeNumbers, "rates as whole numbers, here and there"),
    Mutant(CountsCalls, "counts its calls"),
    Mutant(KeepsTheLargest, "keeps the last update that it was asked for"),
    Mutant(FirstUpdateAlone, "no update but the first"),
    Mutant(PercentForShare, "per cent where a share was meant: it is 0 after a hundredth"),
)
