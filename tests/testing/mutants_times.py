"""Mistakes of laws of training times."""

from __future__ import annotations

import torch

from diffkit.bundled.times.uniform import Uniform
from diffkit.core.times import DrawnTimes, TrainingTimes

from .mutant import Mutant


def unweighted(t):
    return DrawnTimes(t, torch.ones_like(t))


class Importance(TrainingTimes):
    """A right one: density 1/2 + t, weighted back to the uniform law."""

    def _weight(self, t):
        return 1 / (0.5 + t)

    def draw(self, uniform, schedule):
        t = schedule.snap((torch.sqrt(1 + 8 * (1 - uniform)) - 1) / 2)
        return DrawnTimes(t, self._weight(t))


class LogitNormal(TrainingTimes):
    """A right one, which means to change the objective: Esser et al. (2024), eq. 19."""

    def draw(self, uniform, schedule):
        t = torch.sigmoid(torch.special.ndtri(uniform.clamp(1e-16, 1 - 1e-16)))
        return unweighted(schedule.snap(t))


class Stratified(Uniform):
    """A right one: each sample of a batch in a part of [0, 1) of its own."""

    def draw(self, uniform, schedule):
        first = uniform[0] + torch.arange(len(uniform), dtype=torch.float64) / len(uniform)
        return super().draw(first % 1.0, schedule)


class Halves(TrainingTimes):
    """A right one that learns: each half of (0, 1] as often as its mean loss is large."""

    def init(self, schedule):
        return {"sums": torch.zeros(2, dtype=torch.float64), "counts": torch.zeros(2).double()}

    def update(self, state, t, values):
        half = (t > 0.5).long()
        own = values * self.density(state)[half]
        counts = state["counts"] + torch.bincount(half, minlength=2)
        return {"sums": state["sums"].index_add(0, half, own), "counts": counts}

    def density(self, state):
        if bool((state["counts"] == 0).any()):
            return torch.ones(2, dtype=torch.float64)
        mean = state["sums"] / state["counts"]
        return mean / mean.mean()

    def weight(self, density):
        return 1 / density

    def draw(self, uniform, schedule):
        return self.draw_learned(uniform, schedule, self.init(schedule))

    def draw_learned(self, uniform, schedule, state):
        density = self.density(state)
        early = density[0] / 2
        u = 1 - uniform
        late = 0.5 + 0.5 * (u - early) / (1 - early)
        t = schedule.snap(torch.where(u <= early, 0.5 * u / early, late))
        return DrawnTimes(t, self.weight(density)[(t > 0.5).long()])


class FromZero(TrainingTimes):
    def draw(self, uniform, schedule):
        return unweighted(uniform.clone())


class IndexFromZero(TrainingTimes):
    def draw(self, uniform, schedule):
        steps = schedule.steps or 1000
        return unweighted((uniform * steps).floor() / steps)


class RoundedIndex(TrainingTimes):
    def draw(self, uniform, schedule):
        steps = schedule.steps or 1000
        return unweighted((uniform * steps).round() / steps)


class NeverTheLast(TrainingTimes):
    def draw(self, uniform, schedule):
        steps = schedule.steps or 1000
        return unweighted(1 / steps + (uniform * (steps - 1)).floor() / steps)


class Truncated(Uniform):
    def draw(self, uniform, schedule):
        return super().draw(0.02 + 0.98 * uniform, schedule)


class LateOnly(Uniform):
    def draw(self, uniform, schedule):
        return super().draw(0.9 * uniform, schedule)


class OffTheGrid(TrainingTimes):
    def draw(self, uniform, schedule):
        return unweighted((1 - uniform).clamp(min=schedule.t_min))


class TimesInSingle(Uniform):
    def draw(self, uniform, schedule):
        return unweighted(super().draw(uniform, schedule).t.float())


class ForColumns(Uniform):
    def draw(self, uniform, schedule):
        return unweighted(super().draw(uniform, schedule).t[:, None])


class ImportanceInverted(Importance):
    def _weight(self, t):
        return 0.5 + t


class ImportanceTwice(Importance):
    def _weight(self, t):
        return (0.5 + t) ** -2


class VanishingDensity(TrainingTimes):
    def draw(self, uniform, schedule):
        t = schedule.snap(1 - uniform.sqrt())
        return DrawnTimes(t, 1 / (2 * (1 - t)))


class NegativeWeights(Uniform):
    def draw(self, uniform, schedule):
        t = super().draw(uniform, schedule).t
        return DrawnTimes(t, 1.5 - 2 * t)


class OwnNumbers(Uniform):
    def draw(self, uniform, schedule):
        return super().draw(torch.rand_like(uniform), schedule)


class AlwaysTheSame(Uniform):
    def draw(self, uniform, schedule):
        even = torch.arange(len(uniform), dtype=torch.float64) / len(uniform)
        return super().draw(even, schedule)


class StrataInOrder(Uniform):
    """One number in each of n parts of [0, 1), the first always in the first."""

    def draw(self, uniform, schedule):
        first = torch.arange(len(uniform), dtype=torch.float64)
        return super().draw((first + uniform) / len(uniform), schedule)


class LearnsInPlace(Halves):
    def update(self, state, t, values):
        for name, value in super().update(state, t, values).items():
            state[name].copy_(value)
        return state


class KeepsItToItself(Halves):
    def __init__(self):
        self._own = None

    def update(self, state, t, values):
        self._own = super().update(state, t, values)
        return self._own

    def density(self, state):
        return super().density(self._own or state)


class EverMore(Halves):
    def init(self, schedule):
        return {**super().init(schedule), "all": torch.zeros(0, dtype=torch.float64)}

    def update(self, state, t, values):
        return {**super().update(state, t, values), "all": torch.cat([state["all"], values])}


class NeverLearns(Halves):
    def update(self, state, t, values):
        return {name: value.clone() for name, value in state.items()}


class LearnedDensityAsWeight(Halves):
    def weight(self, density):
        return density


class LearnedDensityTwice(Halves):
    def weight(self, density):
        return 1 / density**2


RIGHT = (Halves, Importance, LogitNormal, Stratified, Uniform)
MUTANTS = (
    Mutant(FromZero, "times include t = 0, and are not snapped"),
    Mutant(IndexFromZero, "indices from 0 to T - 1 for 1 to T"),
    Mutant(RoundedIndex, "indices rounded, so that 0 is among them"),
    Mutant(NeverTheLast, "indices from 1 to T - 1: T is never trained"),
    Mutant(Truncated, "a distribution that never reaches t = 1"),
    Mutant(LateOnly, "a distribution that never reaches small times"),
    Mutant(OffTheGrid, "continuous times on a discrete schedule"),
    Mutant(TimesInSingle, "times in float32"),
    Mutant(ForColumns, "times with an axis too many"),
    Mutant(ImportanceInverted, "weights are the density for its inverse"),
    Mutant(ImportanceTwice, "the inverse density counted twice"),
    Mutant(VanishingDensity, "weights divide by a density that is 0 at t = 1"),
    Mutant(NegativeWeights, "weights below 0"),
    Mutant(OwnNumbers, "random numbers of its own"),
    Mutant(AlwaysTheSame, "every batch has the same times"),
    Mutant(StrataInOrder, "strata in the order of the rows: each row keeps its part of (0, 1]"),
    Mutant(LearnsInPlace, "what is learned written into the state before"),
    Mutant(KeepsItToItself, "what is learned kept in the component"),
    Mutant(EverMore, "a state that grows with every loss"),
    Mutant(NeverLearns, "losses that change nothing"),
    Mutant(LearnedDensityAsWeight, "weights are the learned density for its inverse"),
    Mutant(LearnedDensityTwice, "the inverse of the learned density counted twice"),
)
