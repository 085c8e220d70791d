"""Mistakes of parameterizations."""

from __future__ import annotations

import torch

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import Target

from .mutant import Mutant


class EDM(Parameterization):
    """A right one: Karras et al. (2022), table 1, for data of deviation 1/2."""

    deviation = 0.5

    def _total(self, scales):
        return (scales.sigma.square() + (scales.alpha * self.deviation).square()).sqrt()

    def target(self, scales):
        total = self._total(scales)
        return Target(
            scales.sigma / (self.deviation * total), -scales.alpha * self.deviation / total
        )

    def c_in(self, scales):
        return 1 / self._total(scales)

    def c_noise(self, t, log_snr):
        return -log_snr / 8


class Flow(Parameterization):
    """A right one: epsilon - x_0."""

    def target(self, scales):
        one = torch.ones_like(scales.alpha)
        return Target(-one, one)


class VelocityWithPlus(Velocity):
    def target(self, scales):
        return Target(scales.sigma, scales.alpha)


class FlowWithPlus(Flow):
    def target(self, scales):
        return Target(*(torch.ones_like(scales.alpha) for _ in range(2)))


class ItsOwnInput(Parameterization):
    def target(self, scales):
        return Target(scales.alpha, scales.sigma)


class SkipWithPlus(EDM):
    def target(self, scales):
        on_x_0, on_epsilon = super().target(scales)
        return Target(on_x_0, -on_epsilon)


class Switches(Parameterization):
    def target(self, scales):
        noisy = scales.sigma > scales.alpha
        return Target(torch.where(noisy, -1.0, 0.0).double(), torch.where(noisy, 0.0, 1.0).double())


class TargetInSingle(Velocity):
    def target(self, scales):
        return Target(*(c.float() for c in super().target(scales)))


class OneForAll(Epsilon):
    def target(self, scales):
        return Target(*torch.tensor([0.0, 1.0], dtype=torch.float64))


class OverTheBatch(Velocity):
    def c_in(self, scales):
        return 1 / scales.sigma.mean().expand_as(scales.sigma)


class InputWithMinus(EDM):
    def c_in(self, scales):
        return 1 / (scales.sigma.square() - (scales.alpha * self.deviation).square()).sqrt()


class InputByRest(Velocity):
    def c_in(self, scales):
        return 1 / (1 - scales.alpha)


class LogOfTime(Epsilon):
    def c_noise(self, t, log_snr):
        return torch.log(t - 0.001)


class TruncatedIndex(Epsilon):
    def c_noise(self, t, log_snr):
        return (1000 * t).floor()


class IndexInHalf(Epsilon):
    def c_noise(self, t, log_snr):
        return (1000 * t).half().double()


class SquaredNoise(Epsilon):
    def c_noise(self, t, log_snr):
        return log_snr.square()


RIGHT = (EDM, Flow, Epsilon, Velocity)
MUTANTS = (
    Mutant(VelocityWithPlus, "velocity as alpha epsilon + sigma x_0"),
    Mutant(FlowWithPlus, "flow as epsilon + x_0"),
    Mutant(ItsOwnInput, "the network predicts its own input"),
    Mutant(SkipWithPlus, "EDM with the skip's sign lost"),
    Mutant(Switches, "x_0 at high noise, epsilon at low noise, with a jump between"),
    Mutant(TargetInSingle, "target coefficients in float32"),
    Mutant(OneForAll, "one coefficient where each sample has its own"),
    Mutant(OverTheBatch, "c_in is averaged over the batch"),
    Mutant(InputWithMinus, "c_in is the root of a difference"),
    Mutant(InputByRest, "c_in divides by 1 - alpha, which is 0 to rounding at low noise"),
    Mutant(LogOfTime, "c_noise is minus infinity at the first time"),
    Mutant(TruncatedIndex, "c_noise is a whole number, so that noise levels fall together"),
    Mutant(IndexInHalf, "c_noise in float16"),
    Mutant(SquaredNoise, "c_noise turns around at equal signal and noise"),
)
