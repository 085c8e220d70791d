"""Mistakes of forward processes."""

from __future__ import annotations

import torch

from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.data import Vocabulary
from diffkit.core.noise import Noise
from diffkit.core.prediction import Prediction, Target
from diffkit.core.process import ForwardProcess, Gaussian
from diffkit.core.schedule import NoiseSchedule
from diffkit.functional import gaussian
from diffkit.functional.coefficients import axpby, broadcast_right
from diffkit.functional.gaussian import Affine, Scales

from .mutant import Mutant


class SwappedPosterior(VariancePreserving):
    def posterior(self, x_0, x_t, t, s):
        on_x_0, on_x_t, variance = gaussian.posterior(*self._ends(t, s))
        return self._mean_and_variance(Affine(on_x_t, on_x_0, variance), x_0, x_t)


class VarianceFloor(VariancePreserving):
    def posterior(self, x_0, x_t, t, s):
        mean, variance = super().posterior(x_0, x_t, t, s)
        return Gaussian(mean, variance.clamp(min=1e-20))


class EndsAtTheFirstLevel(VariancePreserving):
    def posterior(self, x_0, x_t, t, s):
        first = 1e-3 if isinstance(s, float) and s < 1e-3 < t else s
        return super().posterior(x_0, x_t, t, first)


class NextVariance(VariancePreserving):
    def posterior(self, x_0, x_t, t, s):
        mean, _ = super().posterior(x_0, x_t, t, s)
        return Gaussian(mean, self.transition(x_t, s, t).variance)


class FirstTimeForAll(VariancePreserving):
    def posterior(self, x_0, x_t, t, s):
        t, s = (torch.as_tensor(time, dtype=torch.float64).flatten()[0] for time in (t, s))
        return super().posterior(x_0, x_t, t, s)


class Reversing(VariancePreserving):
    """`reverse` with another deviation."""

    def _deviation(self, log_variance):
        return torch.exp(0.5 * log_variance)

    def reverse(self, prediction, x_t, t, s, noise):
        mean = self.posterior(prediction.x_0, x_t, t, s).mean
        if s == 0.0:
            return mean
        deviation = self._deviation(self.log_variance(prediction, t, s))
        return mean + broadcast_right(deviation, x_t) * noise.normal(x_t.shape)


class RootOfLogVariance(Reversing):
    def _deviation(self, log_variance):
        return log_variance.abs().sqrt()


class VarianceForDeviation(Reversing):
    def _deviation(self, log_variance):
        return torch.exp(log_variance)


class NoiseAtTheLastStep(VariancePreserving):
    def reverse(self, prediction, x_t, t, s, noise):
        if s > 0.0:
            return super().reverse(prediction, x_t, t, s, noise)
        mean = super().reverse(prediction, x_t, t, s, noise)
        return mean + 0.0074 * noise.normal(x_t.shape)


class OneGridStepOnly(VariancePreserving):
    def reverse(self, prediction, x_t, t, s, noise):
        s = t - 1 / self.schedule.steps if s > 0.0 and self.schedule.steps else s
        return super().reverse(prediction, x_t, t, s, noise)


class ExchangesOutputs(VariancePreserving):
    def interpret(self, output, x_t, t, target=None):
        found = super().interpret(output, x_t, t, target)
        exchanged = Target(found.target.on_epsilon, found.target.on_x_0)
        return super().interpret(output, x_t, t, exchanged)


class VelocitySign(VariancePreserving):
    def interpret(self, output, x_t, t, target=None):
        if target is not None:
            target = Target(-target.on_x_0, target.on_epsilon)
        return super().interpret(output, x_t, t, target)


class StandardPriorExploding(VarianceExploding):
    def prior(self, shape, noise, condition=None):
        return noise.normal(shape)


class VarianceForPrior(VarianceExploding):
    def prior(self, shape, noise, condition=None):
        return self.scales(self.log_snr(1.0)).sigma * super().prior(shape, noise, condition)


class VariancesSubtracted(VariancePreserving):
    def transition(self, x_s, s, t):
        mean, _ = super().transition(x_s, s, t)
        sigma_t, sigma_s = (self.scales(self.log_snr(time)).sigma for time in (t, s))
        return Gaussian(mean, broadcast_right(sigma_t.square() - sigma_s.square(), x_s))


class RatioOfAlphaBars(VariancePreserving):
    def transition(self, x_s, s, t):
        _, variance = super().transition(x_s, s, t)
        alpha_t, alpha_s = (self.scales(self.log_snr(time)).alpha for time in (t, s))
        return Gaussian(broadcast_right((alpha_t / alpha_s).square(), x_s) * x_s, variance)


class FractionReversed(VariancePreserving):
    def log_variance(self, prediction, t, s):
        fraction = prediction.variance_fraction
        other = 1.0 if fraction is None else 1.0 - fraction
        return super().log_variance(prediction.with_variance_fraction(other), t, s)


class FractionNotInLogs(VariancePreserving):
    def log_variance(self, prediction, t, s):
        small, large = (
            super(FractionNotInLogs, self)
            .log_variance(prediction.with_variance_fraction(end), t, s)
            .exp()
            for end in (0.0, 1.0)
        )
        fraction = prediction.variance_fraction
        return (small + (0.0 if fraction is None else fraction) * (large - small)).log()


class BetaForFlow(RectifiedFlow):
    def log_variance(self, prediction, t, s):
        fraction = prediction.variance_fraction
        if not isinstance(fraction, float) or fraction < 1.0:
            return super().log_variance(prediction, t, s)
        alpha_t, alpha_s = (self.scales(self.log_snr(time)).alpha for time in (t, s))
        return (1 - (alpha_t / alpha_s).square()).log()


class AlphaBarForAlpha(VariancePreserving):
    def diffuse(self, x_0, t, epsilon):
        alpha, sigma = self.scales(self.log_snr(t))
        return axpby(alpha.square(), x_0, sigma.square(), epsilon)


class WrongAxis(VariancePreserving):
    def diffuse(self, x_0, t, epsilon):
        alpha, sigma = self.scales(self.log_snr(t))
        return alpha * x_0 + sigma * epsilon


class MinusSigma(VariancePreserving):
    def diffuse(self, x_0, t, epsilon):
        return super().diffuse(x_0, t, -epsilon)


class AlwaysSingle(VariancePreserving):
    def diffuse(self, x_0, t, epsilon):
        return super().diffuse(x_0.float(), t, epsilon.float())


class NoRoot(VariancePreserving):
    def scales(self, log_snr):
        return Scales(torch.sigmoid(log_snr), torch.sigmoid(-log_snr))


class Cancelling(VariancePreserving):
    def scales(self, log_snr):
        signal = torch.sigmoid(log_snr)
        return Scales(signal.sqrt(), (1 - signal).sqrt())


class ScalesInSingle(VariancePreserving):
    def scales(self, log_snr):
        return super().scales(log_snr.float())


class InfiniteSNR(VariancePreserving):
    def scales(self, log_snr):
        snr = torch.exp(log_snr)
        return Scales((snr / (1 + snr)).sqrt(), (1 / (1 + snr)).sqrt())


class OwnSchedule(VariancePreserving):
    @property
    def schedule(self):
        return Linear(steps=100)


class ShiftedBehindTheSchedule(VariancePreserving):
    def log_snr(self, t):
        return super().log_snr(t) - 1.386


class OneNoiseForAll(VariancePreserving):
    def draw(self, x_0, noise, condition=None):
        return noise.normal(x_0.shape)[:1].expand(*x_0.shape)


class OffsetNoise(VariancePreserving):
    def draw(self, x_0, noise, condition=None):
        offset = noise.normal((x_0.shape[0], *(1 for _ in x_0.shape[1:])))
        return noise.normal(x_0.shape) + 0.3 * offset


class UniformNoise(VariancePreserving):
    def draw(self, x_0, noise, condition=None):
        return noise.uniform(x_0.shape)


class PriorOfItsOwn(VariancePreserving):
    def prior(self, shape, noise, condition=None):
        return torch.randn(shape, dtype=noise.normal(shape).dtype)


class Estimate(Prediction):
    def __init__(self, x_0):
        self._x_0 = x_0

    @property
    def x_0(self):
        return self._x_0


class Hiding(ForwardProcess):
    """Tokens that are hidden one by one, right; nothing is Gaussian."""

    def __init__(self, *, schedule: NoiseSchedule, vocabulary: Vocabulary):
        self._schedule, self.mask = schedule, vocabulary

    @property
    def schedule(self):
        return self._schedule

    def hidden(self, t):
        return torch.sigmoid(-self._schedule.log_snr(t))

    def draw(self, x_0, noise, condition=None):
        return noise.uniform(x_0.shape)

    def diffuse(self, x_0, t, drawn):
        return torch.where(drawn < broadcast_right(self.hidden(t), x_0), self.mask, x_0)

    def prior(self, shape, noise, condition=None):
        return torch.full(tuple(shape), self.mask)

    def interpret(self, output, x_t, t):
        return Estimate(output)

    def reverse(self, prediction, x_t, t, s, noise):
        shown = 1 - self.hidden(s) / self.hidden(t)
        above = prediction.x_0.softmax(-1).cumsum(-1)
        choice = (noise.uniform(x_t.shape)[..., None] >= above).sum(-1).clamp(max=self.mask - 1)
        show = (x_t == self.mask) & (noise.uniform(x_t.shape) < shown)
        return torch.where(show, choice, x_t)


class WritesToTheData(Hiding):
    def diffuse(self, x_0, t, drawn):
        return x_0.copy_(super().diffuse(x_0, t, drawn))


class TokensBecomeNumbers(Hiding):
    def diffuse(self, x_0, t, drawn):
        return super().diffuse(x_0, t, drawn).float()


class HidesAtTimeZero(Hiding):
    def hidden(self, t):
        return super().hidden(t).clamp(min=0.3)


class NoisyAtTimeZero(VariancePreserving):
    def diffuse(self, x_0, t, drawn):
        return super().diffuse(x_0, t, drawn) + 0.01 * drawn


class PriorOfNumbers(Hiding):
    def prior(self, shape, noise, condition=None):
        return noise.normal(shape)


class PriorOfOneRow(Hiding):
    def prior(self, shape, noise, condition=None):
        return super().prior((1, *shape[1:]), noise)


class GivesLogitsBack(Hiding):
    def reverse(self, prediction, x_t, t, s, noise):
        return prediction.x_0


class InterpretsToATensor(Hiding):
    def interpret(self, output, x_t, t):
        return output


class StepsInPlace(Hiding):
    def reverse(self, prediction, x_t, t, s, noise):
        return x_t.copy_(super().reverse(prediction, x_t, t, s, noise))


class LeavesSomeHidden(Hiding):
    def reverse(self, prediction, x_t, t, s, noise):
        stays = noise.uniform(x_t.shape) < 0.05 if s == 0.0 else torch.tensor(False)
        return torch.where(stays, x_t, super().reverse(prediction, x_t, t, s, noise))


class ShowsTooMany(Hiding):
    def reverse(self, prediction, x_t, t, s, noise):
        shown = 1 - self.hidden(s)
        above = prediction.x_0.softmax(-1).cumsum(-1)
        choice = (noise.uniform(x_t.shape)[..., None] >= above).sum(-1).clamp(max=self.mask - 1)
        show = (x_t == self.mask) & (noise.uniform(x_t.shape) < shown)
        return torch.where(show, choice, x_t)


class PriorOfTheFirstToken(Hiding):
    def prior(self, shape, noise, condition=None):
        return torch.zeros(tuple(shape), dtype=torch.int64)


class Neighbours(Noise):
    """Of each sample that of the one before it."""

    def __init__(self, noise):
        self._noise = noise

    def normal(self, shape):
        return self._noise.normal(shape).roll(1, 0)

    def uniform(self, shape):
        return self._noise.uniform(shape).roll(1, 0)


class StepsByItsNeighbour(Hiding):
    def reverse(self, prediction, x_t, t, s, noise):
        return super().reverse(prediction, x_t, t, s, Neighbours(noise))


class HidesAsTheFirst(Hiding):
    def hidden(self, t):
        return super().hidden(t).flatten()[0]


class Scattering(ForwardProcess):
    """Tokens that are drawn anew one by one, right. Austin et al. (2021), D3PM, section 3.1."""

    def __init__(self, *, schedule: NoiseSchedule, vocabulary: Vocabulary):
        self._schedule, self._count = schedule, vocabulary

    @property
    def schedule(self):
        return self._schedule

    def kept(self, t):
        return torch.sigmoid(self._schedule.log_snr(t))

    def draw(self, x_0, noise, condition=None):
        return noise.uniform(x_0.shape), noise.uniform(x_0.shape)

    def diffuse(self, x_0, t, drawn):
        other = (drawn[1] * self._count).long()
        return torch.where(drawn[0] < broadcast_right(self.kept(t), x_0), x_0, other)

    def prior(self, shape, noise, condition=None):
        return (noise.uniform(shape) * self._count).long()

    def interpret(self, output, x_t, t):
        return Estimate(output)

    def reverse(self, prediction, x_t, t, s, noise):
        at_s, between = float(self.kept(s)), float(self.kept(t) / self.kept(s))
        p, even = prediction.x_0.softmax(-1), 1 / self._count
        here = torch.nn.functional.one_hot(x_t, self._count)
        weight = (between * here + (1 - between) * even) * (at_s * p + (1 - at_s) * even)
        above = weight.cumsum(-1) / weight.sum(-1, keepdim=True)
        choice = (noise.uniform(x_t.shape)[..., None] >= above).sum(-1)
        return choice.clamp(max=self._count - 1)


RIGHT = (VariancePreserving, VarianceExploding, RectifiedFlow, Hiding, Scattering)
MUTANTS = (
    Mutant(SwappedPosterior, "the posterior mean's coefficients are exchanged"),
    Mutant(VarianceFloor, "the posterior variance has a floor, at s = 0 too"),
    Mutant(EndsAtTheFirstLevel, "the last step ends at the first noise level, not at the data"),
    Mutant(NextVariance, "the posterior has the variance of q(x_t | x_s)"),
    Mutant(FirstTimeForAll, "one sample's time is used for the whole batch"),
    Mutant(RootOfLogVariance, "the root of the log-variance as the deviation"),
    Mutant(VarianceForDeviation, "exp(log-variance) without the half as the deviation"),
    Mutant(NoiseAtTheLastStep, "noise is added at the last step"),
    Mutant(OneGridStepOnly, "a long step back uses the formulas of one grid step"),
    Mutant(ExchangesOutputs, "outputs of epsilon are read as x_0, and the reverse"),
    Mutant(VelocitySign, "velocity is read with the wrong sign"),
    Mutant(StandardPriorExploding, "a standard normal prior where variance explodes"),
    Mutant(VarianceForPrior, "the prior's deviation is sigma squared"),
    Mutant(VariancesSubtracted, "q(x_t | x_s) has the variance sigma_t^2 - sigma_s^2"),
    Mutant(RatioOfAlphaBars, "q(x_t | x_s) scales by the ratio of alpha-bars, without the root"),
    Mutant(FractionReversed, "fixed_large and fixed_small are exchanged"),
    Mutant(FractionNotInLogs, "variances are interpolated, not their logarithms"),
    Mutant(BetaForFlow, "DDPM's beta as the largest variance of another curve"),
    Mutant(AlphaBarForAlpha, "diffusion without the root: alpha-bar for alpha"),
    Mutant(WrongAxis, "times of samples are applied along the last axis"),
    Mutant(MinusSigma, "noise is subtracted"),
    Mutant(AlwaysSingle, "diffusion in float32 whatever comes in"),
    Mutant(NoRoot, "alpha = sigmoid(log-SNR), without the root"),
    Mutant(Cancelling, "sigma as the root of 1 - alpha^2, which cancels"),
    Mutant(ScalesInSingle, "scales in float32"),
    Mutant(InfiniteSNR, "infinity divided by infinity at t = 0"),
    Mutant(OwnSchedule, "a process with a schedule of its own beside the one given"),
    Mutant(ShiftedBehindTheSchedule, "the process shifts the log-SNR, the schedule does not"),
    Mutant(OneNoiseForAll, "all samples of a batch share one noise"),
    Mutant(OffsetNoise, "offset noise, of which the formulas know nothing"),
    Mutant(UniformNoise, "uniform noise for normal noise"),
    Mutant(PriorOfItsOwn, "the prior is drawn from torch's global generator"),
    Mutant(WritesToTheData, "diffusion that writes to the data"),
    Mutant(TokensBecomeNumbers, "tokens that are float32 once they are diffused"),
    Mutant(HidesAtTimeZero, "tokens that are hidden at t = 0"),
    Mutant(NoisyAtTimeZero, "a little noise at t = 0"),
    Mutant(PriorOfNumbers, "a prior of normal numbers for tokens"),
    Mutant(PriorOfOneRow, "a prior of one row for all samples"),
    Mutant(GivesLogitsBack, "a step back that gives logits, and no tokens"),
    Mutant(InterpretsToATensor, "an output that is no prediction"),
    Mutant(StepsInPlace, "a step back that writes to the state"),
    Mutant(LeavesSomeHidden, "a last step that leaves some tokens hidden"),
    Mutant(ShowsTooMany, "a step back that forgets how many are hidden already"),
    Mutant(PriorOfTheFirstToken, "a prior of tokens that nothing is diffused to"),
    Mutant(StepsByItsNeighbour, "a step back with the noise of another sample"),
    Mutant(HidesAsTheFirst, "tokens of all samples hidden as at the first one's time"),
)
