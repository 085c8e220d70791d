"""Samplers with the mistakes that samplers are known for."""

from __future__ import annotations

from itertools import pairwise

import torch

from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.core.process import GaussianProcess
from diffkit.core.sampler import Sampler, State, StepSampler
from diffkit.functional.coefficients import broadcast_right

from .mutant import Mutant


class Step(StepSampler):
    process_class = GaussianProcess


class Flow(Step):
    """DDIM without noise, right; the mutants below change one thing."""

    @property
    def order(self):
        return 1

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        x_s = denoiser.process.diffuse(prediction.x_0, s, prediction.epsilon)
        return State(x_s, s, prediction)


class AskedOneStepEarly(Flow):
    def step(self, denoiser, x_t, t, s, noise):
        steps = denoiser.process.schedule.steps or 1000
        prediction = denoiser(x_t, max(t - 1 / steps, denoiser.process.schedule.t_min))
        x_s = denoiser.process.diffuse(prediction.x_0, s, prediction.epsilon)
        return State(x_s, s, prediction)


class BetasOfTheWholeGrid(Step):
    """The step's noise from the T-step chain, though the trajectory has fewer steps."""

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        process = denoiser.process
        neighbour = max(t - 1 / (process.schedule.steps or 1000), 0.0)
        mean, variance = process.posterior(prediction.x_0, x_t, t, neighbour)
        deviation = variance.sqrt() if s > 0 else torch.zeros(())
        x_s = mean + (deviation * noise.normal(x_t.shape) if s > 0 else 0.0)
        return State(x_s, s, prediction)


class RootOfALogVariance(Step):
    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        mean = denoiser.process.posterior(prediction.x_0, x_t, t, s).mean
        if s > 0:
            deviation = denoiser.process.log_variance(prediction, t, s).abs().sqrt()
            mean = mean + deviation * noise.normal(x_t.shape)
        return State(mean, s, prediction)


class VarianceForDeviation(Step):
    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        mean, variance = denoiser.process.posterior(prediction.x_0, x_t, t, s)
        if s > 0:
            mean = mean + variance * noise.normal(x_t.shape)
        return State(mean, s, prediction)


class NoiseInTheLastStep(Step):
    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        mean = denoiser.process.posterior(prediction.x_0, x_t, t, s).mean
        floor = max(s, denoiser.process.schedule.t_min)
        deviation = denoiser.process.scales(denoiser.process.log_snr(floor)).sigma
        if s > 0:
            deviation = denoiser.process.log_variance(prediction, t, s).mul(0.5).exp()
        return State(mean + deviation * noise.normal(x_t.shape), s, prediction)


class EpsilonForData(Flow):
    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        x_s = denoiser.process.diffuse(prediction.epsilon, s, prediction.x_0)
        return State(x_s, s, prediction)


class ClipsToTheRange(Flow):
    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        x_0 = prediction.x_0
        if denoiser.data_range is not None:
            x_0 = x_0.clamp(*denoiser.data_range)
        return State(denoiser.process.diffuse(x_0, s, prediction.epsilon), s, prediction)


class TakesWhatWasNotClipped(Flow):
    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t).unclipped
        x_s = denoiser.process.diffuse(prediction.x_0, s, prediction.epsilon)
        return State(x_s, s, prediction)


class GlobalGenerator(Step):
    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        mean, variance = denoiser.process.posterior(prediction.x_0, x_t, t, s)
        return State(mean + variance.sqrt() * torch.randn_like(x_t), s, prediction)


class Multistep(Sampler):
    """DPM-Solver++ 2M, right; Lu et al. (2022), Algorithm 2, in x_0."""

    process_class = GaussianProcess

    @property
    def order(self):
        return 2

    @property
    def order_on_uneven_steps(self):
        return 2

    def weight(self, last, h):
        return h / (2 * last)

    def trajectory(self, denoiser, x, times, noise, inputs):
        process = denoiser.process
        before, last = None, None
        for t, s in pairwise(times):
            at_t, at_s = (process.scales(process.log_snr(time)) for time in (t, s))
            h = (process.log_snr(s) - process.log_snr(t)) / 2
            prediction = denoiser(x, t)
            data = prediction.x_0
            if before is not None and self.extrapolates(s, last, h):
                data = data + self.weight(last, h) * (data - before)
            x = at_s.sigma / at_t.sigma * x - at_s.alpha * torch.expm1(-h) * data
            before, last = prediction.x_0, h
            yield State(x, s, prediction)

    def extrapolates(self, s, last, h):
        return s > 0 and bool(last.isfinite())


class RatioUpsideDown(Multistep):
    def weight(self, last, h):
        return last / (2 * h)


class RatioIgnored(Multistep):
    """Right on even steps; it claims the order on others too."""

    def weight(self, last, h):
        return 0.5


class LengthOfTheStepBefore(Sampler):
    """The step is taken with the length of the one before: right on even steps."""

    process_class = GaussianProcess

    def trajectory(self, denoiser, x, times, noise, inputs):
        process, last = denoiser.process, None
        for t, s in pairwise(times):
            at_t, at_s = (process.scales(process.log_snr(time)) for time in (t, s))
            h = (process.log_snr(s) - process.log_snr(t)) / 2
            used = h if last is None or not (last.isfinite() and h.isfinite()) else last
            prediction = denoiser(x, t)
            x = at_s.sigma / at_t.sigma * x - at_s.alpha * torch.expm1(-used) * prediction.x_0
            last = h
            yield State(x, s, prediction)

    @property
    def order(self):
        return 1


class SecondOrderIntoZero(Multistep):
    def extrapolates(self, s, last, h):
        return True


class HistoryOnTheInstance(Flow):
    def __init__(self):
        self._before = None

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        data = prediction.x_0
        if self._before is not None and self._before.shape == data.shape and s > 0:
            data = data + 0.1 * (data - self._before)
        self._before = prediction.x_0
        return State(denoiser.process.diffuse(data, s, prediction.epsilon), s, prediction)


class WritesIntoItsStates(Sampler):
    process_class = GaussianProcess

    def trajectory(self, denoiser, x, times, noise, inputs):
        x = x.clone()
        for t, s in pairwise(times):
            prediction = denoiser(x, t)
            x.copy_(denoiser.process.diffuse(prediction.x_0, s, prediction.epsilon))
            yield State(x, s, prediction)


class WritesIntoTheStart(Flow):
    def step(self, denoiser, x_t, t, s, noise):
        state = super().step(denoiser, x_t, t, s, noise)
        x_t.copy_(state.x)
        return state


class DrawsForNothing(Flow):
    def step(self, denoiser, x_t, t, s, noise):
        state = super().step(denoiser, x_t, t, s, noise)
        return State(state.x + 0.0 * noise.normal(x_t.shape), s, state.prediction)


class DeclaresTooMuch(Flow):
    @property
    def order(self):
        return 2


class ThresholdOfTheBatch(Flow):
    """Dynamic thresholding with one threshold for all samples."""

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        high = float(prediction.x_0.abs().mean())
        return State(
            denoiser.process.diffuse(prediction.x_0.clamp(-high, high), s, prediction.epsilon),
            s,
            prediction,
        )


class StopsShort(Sampler):
    process_class = GaussianProcess

    def trajectory(self, denoiser, x, times, noise, inputs):
        for t, s in pairwise(times[:-1]):
            prediction = denoiser(x, t)
            x = denoiser.process.diffuse(prediction.x_0, s, prediction.epsilon)
            yield State(x, s, prediction)


class StartsLate(Sampler):
    process_class = GaussianProcess

    def trajectory(self, denoiser, x, times, noise, inputs):
        for t, s in pairwise(times[1:]):
            prediction = denoiser(x, t)
            x = denoiser.process.diffuse(prediction.x_0, s, prediction.epsilon)
            yield State(x, s, prediction)


class Slopes(Step):
    """Heun in x / alpha over sigma / alpha, asked at s = 0 too. Karras et al. (2022)."""

    def step(self, denoiser, x_t, t, s, noise):
        process = denoiser.process
        at_t, at_s = (process.scales(process.log_snr(time)) for time in (t, s))
        first = denoiser(x_t, t)
        x_s = process.diffuse(first.x_0, s, first.epsilon)
        if not self.corrects(s):
            return State(x_s, s, first)
        second = denoiser(x_s, s)
        slope = (first.epsilon + second.epsilon) / 2
        change = at_s.sigma / at_s.alpha - at_t.sigma / at_t.alpha
        return State(at_s.alpha * (x_t / at_t.alpha + change * slope), s, first)

    def corrects(self, s):
        return True


class AsksAtZero(Slopes):
    def calls(self, times):
        return 2 * (len(times) - 1)


class MoreCallsThanDeclared(Slopes):
    def corrects(self, s):
        return s > 0


class WrongOrderDeclared(Slopes):
    def corrects(self, s):
        return s > 0

    def calls(self, times):
        return 2 * (len(times) - 1) - (times[-1] == 0)

    @property
    def order(self):
        return 3


class AlwaysSinglePrecision(Flow):
    def step(self, denoiser, x_t, t, s, noise):
        state = super().step(denoiser, x_t, t, s, noise)
        return State(state.x.float(), s, state.prediction)


class TimesAsTensors(Flow):
    def step(self, denoiser, x_t, t, s, noise):
        state = super().step(denoiser, x_t, t, s, noise)
        return State(state.x, torch.tensor(s, dtype=torch.float64), state.prediction)


class YieldsWithoutGradients(Sampler):
    process_class = GaussianProcess

    def trajectory(self, denoiser, x, times, noise, inputs):
        with torch.no_grad():
            for t, s in pairwise(times):
                prediction = denoiser(x, t)
                x = denoiser.process.diffuse(prediction.x_0, s, prediction.epsilon)
                yield State(x, s, prediction)


class VariancePreservingOnly(Flow):
    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        kept = torch.sigmoid(denoiser.process.log_snr(s))
        x_s = kept.sqrt() * prediction.x_0 + (1 - kept).sqrt() * prediction.epsilon
        return State(x_s, s, prediction)


class DividesByAlpha(Flow):
    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        alpha, sigma = denoiser.process.scales(denoiser.process.log_snr(t))
        x_0 = (x_t - sigma * prediction.epsilon) / alpha
        return State(denoiser.process.diffuse(x_0, s, prediction.epsilon), s, prediction)


class NoiseOnTopOfTheFlow(Step):
    """DDIM's noise added without taking anything from the direction to x_t."""

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        x_s = denoiser.process.diffuse(prediction.x_0, s, prediction.epsilon)
        if s > 0:
            variance = denoiser.process.posterior(prediction.x_0, x_t, t, s).variance
            x_s = x_s + variance.sqrt() * noise.normal(x_t.shape)
        return State(x_s, s, prediction)


class ChurnWithoutMovingTime(Flow):
    """Noise is added to x_t, and the network is still told t."""

    def step(self, denoiser, x_t, t, s, noise):
        sigma = denoiser.process.scales(denoiser.process.log_snr(t)).sigma
        if s > 0:
            x_t = x_t + 0.3 * sigma * noise.normal(x_t.shape)
        return super().step(denoiser, x_t, t, s, noise)


class VarianceOptionIgnored(DDPM):
    def step(self, denoiser, x_t, t, s, noise):
        self._variance = "fixed_small"
        return super().step(denoiser, x_t, t, s, noise)


class OneNoiseForAll(Step):
    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        mean, variance = denoiser.process.posterior(prediction.x_0, x_t, t, s)
        if s > 0:
            mean = mean + variance.sqrt() * noise.normal(x_t.shape)[:1]
        return State(mean, s, prediction)


class OneNoiseForAllSteps(Sampler):
    process_class = GaussianProcess

    def trajectory(self, denoiser, x, times, noise, inputs):
        epsilon = noise.normal(x.shape)
        for t, s in pairwise(times):
            prediction = denoiser(x, t)
            mean, variance = denoiser.process.posterior(prediction.x_0, x, t, s)
            x = mean + broadcast_right(variance.sqrt(), x) * epsilon
            yield State(x, s, prediction)


class AlphaForItsSquare(Flow):
    """alpha-bar where its root belongs, in the last formula only."""

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        alpha, sigma = denoiser.process.scales(denoiser.process.log_snr(s))
        return State(alpha.square() * prediction.x_0 + sigma * prediction.epsilon, s, prediction)


class ReadsTheNetworksOutput(Flow):
    """Takes whatever the network says for epsilon."""

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        on_epsilon = prediction.output
        if bool((prediction.target.on_epsilon == 0).all()):
            on_epsilon = prediction.epsilon
        return State(denoiser.process.diffuse(prediction.x_0, s, on_epsilon), s, prediction)


RIGHT = (Flow, Multistep)
"""What the mutants are made of, without a mistake."""

MUTANTS = (
    Mutant(AskedOneStepEarly, "off by one in the time grid: asked at k - 1"),
    Mutant(BetasOfTheWholeGrid, "a respaced trajectory with the betas of the whole grid"),
    Mutant(RootOfALogVariance, "the square root of a log-variance"),
    Mutant(VarianceForDeviation, "noise multiplied by the variance"),
    Mutant(NoiseInTheLastStep, "noise added in the last step"),
    Mutant(EpsilonForData, "epsilon and x_0 swapped"),
    Mutant(ClipsToTheRange, "x_0 clipped to the data's range, epsilon not derived again"),
    Mutant(TakesWhatWasNotClipped, "the prediction as it was before the run clipped it"),
    Mutant(GlobalGenerator, "noise from the global generator"),
    Mutant(RatioUpsideDown, "a multistep solver with its step ratio upside down"),
    Mutant(RatioIgnored, "a multistep solver, declared for uneven steps, without its step ratio"),
    Mutant(LengthOfTheStepBefore, "the length of the step before taken for the step's"),
    Mutant(SecondOrderIntoZero, "a multistep solver of second order in the step to t = 0"),
    Mutant(HistoryOnTheInstance, "history kept on the instance, between trajectories"),
    Mutant(WritesIntoItsStates, "one buffer for all states"),
    Mutant(WritesIntoTheStart, "the start written over"),
    Mutant(DrawsForNothing, "noise drawn and multiplied by 0"),
    Mutant(DeclaresTooMuch, "order 2 declared for a first-order solver"),
    Mutant(WrongOrderDeclared, "order 3 declared for Heun's method"),
    Mutant(ThresholdOfTheBatch, "a threshold from the whole batch"),
    Mutant(StopsShort, "the last step left out"),
    Mutant(StartsLate, "the first step left out"),
    Mutant(AsksAtZero, "the network asked at t = 0"),
    Mutant(MoreCallsThanDeclared, "two calls a step where one is declared"),
    Mutant(AlwaysSinglePrecision, "states always in float32"),
    Mutant(TimesAsTensors, "times yielded as tensors"),
    Mutant(YieldsWithoutGradients, "a yield inside no_grad"),
    Mutant(VariancePreservingOnly, "alpha^2 + sigma^2 = 1 taken for granted"),
    Mutant(DividesByAlpha, "a division by alpha, which can be 0 at t = 1"),
    Mutant(NoiseOnTopOfTheFlow, "DDIM's noise without its correction of the direction"),
    Mutant(ChurnWithoutMovingTime, "noise added, and the network told the old time"),
    Mutant(VarianceOptionIgnored, "the option `variance` ignored"),
    Mutant(OneNoiseForAll, "the first sample's noise for the whole batch"),
    Mutant(OneNoiseForAllSteps, "one draw of noise for all steps"),
    Mutant(AlphaForItsSquare, "alpha-bar in place of its root"),
    Mutant(ReadsTheNetworksOutput, "the network's output taken for epsilon"),
)
