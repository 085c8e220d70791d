"""Mistakes of optimisers."""

from __future__ import annotations

import torch

from diffkit.core import Optimizer

from .mutant import Mutant


class Signs(torch.optim.Optimizer):
    """Sign descent with momentum; others get parts of it wrong."""

    def __init__(self, weights, lr=1.0) -> None:
        super().__init__(weights, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self.one(weight, self.state[weight], group["lr"])

    def one(self, weight, state, rate) -> None:
        mean = state.setdefault("mean", torch.zeros_like(weight))
        mean.lerp_(weight.grad, 0.1)
        weight.sub_(mean.sign(), alpha=rate)


class SignDescent(Optimizer):
    """A right one."""

    def make(self, named_parameters):
        return Signs([weight for _, weight in named_parameters])


class TwoGroups(Optimizer):
    """A right one: vectors at a tenth of the rate, and only the groups that have something."""

    def make(self, named_parameters):
        groups = [
            {"params": [w for _, w in named_parameters if w.ndim >= 2], "lr": 1.0},
            {"params": [w for _, w in named_parameters if w.ndim < 2], "lr": 0.1},
        ]
        return Signs([group for group in groups if group["params"]])


class MatricesAlone(Optimizer):
    def make(self, named_parameters):
        weights = [weight for _, weight in named_parameters if weight.ndim >= 2]
        return Signs(weights or [weight for _, weight in named_parameters])


class NothingForScalars(Optimizer):
    def make(self, named_parameters):
        weights = [weight for _, weight in named_parameters]
        return Signs([{"params": [w for w in weights if w.ndim]}, {"params": []}])


class Climbs(SignDescent):
    def make(self, named_parameters):
        class Wrong(Signs):
            def one(self, weight, state, rate) -> None:
                weight.add_(weight.grad, alpha=rate)

        return Wrong([weight for _, weight in named_parameters])


class NeverMovesVectors(SignDescent):
    def make(self, named_parameters):
        return Signs([{"params": [w], "lr": float(w.ndim != 1)} for _, w in named_parameters])


class DecaysWithoutRate(SignDescent):
    def make(self, named_parameters):
        class Wrong(Signs):
            def one(self, weight, state, rate) -> None:
                super().one(weight, state, rate)
                weight.mul_(0.999)

        return Wrong([weight for _, weight in named_parameters])


class RateOfItsOwn(SignDescent):
    def make(self, named_parameters):
        class Wrong(Signs):
            def one(self, weight, state, rate) -> None:
                super().one(weight, state, 1e-3)

        return Wrong([weight for _, weight in named_parameters])


class DecaysWhatHasNoGradient(SignDescent):
    def make(self, named_parameters):
        class Wrong(Signs):
            @torch.no_grad()
            def step(self, closure=None) -> None:
                for group in self.param_groups:
                    for weight in group["params"]:
                        weight.mul_(1.0 - 0.01 * group["lr"])
                super().step()

        return Wrong([weight for _, weight in named_parameters])


class StopsAtNone(SignDescent):
    def make(self, named_parameters):
        class Wrong(Signs):
            @torch.no_grad()
            def step(self, closure=None) -> None:
                if all(w.grad is not None for g in self.param_groups for w in g["params"]):
                    super().step()

        return Wrong([weight for _, weight in named_parameters])


class CountsBesideItsState(SignDescent):
    def make(self, named_parameters):
        class Wrong(Signs):
            count = 0

            @torch.no_grad()
            def step(self, closure=None) -> None:
                self.count += 1
                for group in self.param_groups:
                    for weight in group["params"]:
                        weight.sub_(weight.grad, alpha=group["lr"] / self.count)

        return Wrong([weight for _, weight in named_parameters])


class KeepsAFunction(SignDescent):
    def make(self, named_parameters):
        class Wrong(Signs):
            def one(self, weight, state, rate) -> None:
                state["law"] = torch.sign
                super().one(weight, state, rate)

        return Wrong([weight for _, weight in named_parameters])


class OnlySaysItLooks(SignDescent):
    def make(self, named_parameters):
        found = Signs([weight for _, weight in named_parameters])
        found._step_supports_amp_scaling = True
        return found


class LooksTooLate(SignDescent):
    def make(self, named_parameters):
        class Wrong(Signs):
            _step_supports_amp_scaling = True

            def one(self, weight, state, rate) -> None:
                mean = state.setdefault("mean", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 0.1)
                if not self.found_inf.item():
                    weight.sub_(mean.sign(), alpha=rate)

        return Wrong([weight for _, weight in named_parameters])


RIGHT = (SignDescent, TwoGroups)
MUTANTS = (
    Mutant(MatricesAlone, "an optimiser of matrices that forgets vectors"),
    Mutant(NothingForScalars, "an optimiser that forgets scalars"),
    Mutant(Climbs, "a sign: it climbs"),
    Mutant(NeverMovesVectors, "a group whose multiple of the rate is 0"),
    Mutant(DecaysWithoutRate, "weight decay that the rate does not scale"),
    Mutant(RateOfItsOwn, "a rate of its own, whatever the trainer sets"),
    Mutant(DecaysWhatHasNoGradient, "weight decay of weights without a gradient"),
    Mutant(StopsAtNone, "one weight without a gradient stops all"),
    Mutant(CountsBesideItsState, "a count of updates beside its state, lost at resume"),
    Mutant(KeepsAFunction, "a function in its state, which no checkpoint holds"),
    Mutant(OnlySaysItLooks, "says that it looks at found_inf, and does not"),
    Mutant(LooksTooLate, "looks at found_inf once its means are spoilt"),
)
