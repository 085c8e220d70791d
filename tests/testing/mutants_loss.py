"""Losses with the mistakes that losses are known for."""

from __future__ import annotations

from dataclasses import replace

import torch

from diffkit.core.bound import Bound
from diffkit.core.loss import Loss, LossRecord
from diffkit.core.process import GaussianProcess
from diffkit.core.weighting import Unweighted, Weighting
from diffkit.functional.coefficients import broadcast_right

from .mutant import Mutant


class Squared(Loss):
    """The squared error, weighted, right; the mutants below change one thing."""

    process_class = GaussianProcess

    def __init__(self, *, weighting: Weighting = Unweighted()) -> None:
        self._weighting = weighting

    def drawn(self, x_0, context):
        return context.process.draw(x_0, context.noise)

    def asked_at(self, t, process):
        return t

    def target(self, prediction, x_0, epsilon, context):
        on_x_0, on_epsilon = (broadcast_right(c, epsilon) for c in prediction.target)
        return on_x_0 * x_0 + on_epsilon * epsilon

    def errors(self, output, target):
        return (output - target).square().flatten(1).mean(1)

    def log_snr(self, t, process):
        return process.log_snr(t)

    def weight(self, t, importance, process, prediction):
        levels = self.log_snr(t, process), prediction.scales, prediction.target
        return importance * self._weighting.of_output(*levels)

    def record(self, values, t):
        return LossRecord(values=values, t=t)

    def __call__(self, batch, context):
        process = context.process
        t, importance = context.draw_times(len(batch))
        epsilon = self.drawn(batch.x_0, context)
        x_t = process.diffuse(batch.x_0, t, epsilon)
        prediction = context.denoiser(x_t, self.asked_at(t, process))
        target = self.target(prediction, batch.x_0, epsilon, context)
        errors = self.errors(prediction.output, target)
        weight = self.weight(t, importance, process, prediction)
        return self.record(broadcast_right(weight, errors) * errors, t)


class OtherNoiseInTheTarget(Squared):
    def target(self, prediction, x_0, epsilon, context):
        return super().target(prediction, x_0, self.drawn(x_0, context), context)


class TargetNegated(Squared):
    def target(self, prediction, x_0, epsilon, context):
        return -super().target(prediction, x_0, epsilon, context)


class EpsilonWhateverIsPredicted(Squared):
    def target(self, prediction, x_0, epsilon, context):
        return epsilon


class ErrorNegated(Squared):
    def errors(self, output, target):
        return -super().errors(output, target)


class MeanOverTheBatch(Squared):
    def errors(self, output, target):
        errors = super().errors(output, target)
        return errors.mean().expand_as(errors)


class DividedByTheBatchMean(Squared):
    def errors(self, output, target):
        errors = super().errors(output, target)
        return errors / (errors.mean() + 1e-8)


class SummedUp(Squared):
    def errors(self, output, target):
        return super().errors(output, target).cumsum(0)


class OneNumber(Squared):
    def record(self, values, t):
        return LossRecord(values=values.mean(), t=t)


class TimesInFloat32(Squared):
    def record(self, values, t):
        return LossRecord(values=values, t=t.float())


class OneStepOff(Squared):
    def asked_at(self, t, process):
        return (t - 1 / process.schedule.steps).clamp(min=process.schedule.t_min)


class OneStepLate(Squared):
    def asked_at(self, t, process):
        return (t + 1 / process.schedule.steps).clamp(max=1.0)


class OneTimeForAll(Squared):
    def asked_at(self, t, process):
        return t[:1].expand_as(t)


class ImportanceIgnored(Squared):
    def weight(self, t, importance, process, prediction):
        return super().weight(t, torch.ones_like(t), process, prediction)


class WeightingIgnored(Squared):
    def weight(self, t, importance, process, prediction):
        return importance


class WeightAtTheOppositeLogSNR(Squared):
    def log_snr(self, t, process):
        return -process.log_snr(t)


class WeightOneStepOff(Squared):
    def log_snr(self, t, process):
        return process.log_snr((t - 1 / process.schedule.steps).clamp(min=process.schedule.t_min))


class WeightOfTheOutputOnly(Squared):
    """As if every weighting were of the output's error."""

    def weight(self, t, importance, process, prediction):
        return importance * self._weighting.weight(self.log_snr(t, process))


class WeightAsIfEpsilonWerePredicted(Squared):
    def weight(self, t, importance, process, prediction):
        one = torch.ones_like(t)
        target = type(prediction.target)(torch.zeros_like(t), one)
        levels = self.log_snr(t, process), prediction.scales, target
        return importance * self._weighting.of_output(*levels)


class RootOfTheError(Squared):
    def errors(self, output, target):
        return super().errors(output, target).sqrt()


class ExponentialOfTheError(Squared):
    def errors(self, output, target):
        return super().errors(output, target).expm1()


class Detached(Squared):
    def record(self, values, t):
        return LossRecord(values=values.detach(), t=t)


class GlobalNoise(Squared):
    def drawn(self, x_0, context):
        return torch.randn_like(x_0)


class OneNoiseForAllBatches(Squared):
    def drawn(self, x_0, context):
        generator = torch.Generator().manual_seed(0)
        return torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)


class NoiseUniform(Squared):
    def drawn(self, x_0, context):
        return 2 * context.noise.uniform(x_0.shape) - 1


class WithVariance(Squared):
    """And a little of the bound for the variance, the mean's gradient stopped; right."""

    def __init__(self):
        self._weighting = Unweighted()

    @classmethod
    def requires(cls, config, facts):
        if not facts.get("model.learned_variance"):
            yield "the model predicts no variance"

    def stopped(self, prediction):
        return replace(prediction, output=prediction.output.detach())

    def bound_on(self, prediction):
        return prediction

    def __call__(self, batch, context):
        asked = []

        class Preconditioning:
            def __call__(self, x_t, t, *, given=None, times=None):
                asked.append(context.denoiser(x_t, t))
                return asked[-1]

        record = super().__call__(batch, replace(context, denoiser=Preconditioning()))
        bound = Bound(context.process, context.process.schedule.steps, None, None)
        prediction = self.bound_on(self.stopped(asked[-1]))
        term = bound.term(batch.x_0, prediction, record.t)
        importance = broadcast_right(context.draw_times(len(batch)).weight, term)
        return replace(record, values=record.values + importance * term)


class VarianceUntrained(WithVariance):
    def stopped(self, prediction):
        fraction = prediction.variance_fraction.detach()
        return replace(super().stopped(prediction), variance_fraction=fraction)


class VarianceUpsideDown(WithVariance):
    def bound_on(self, prediction):
        return replace(prediction, variance_fraction=1.0 - prediction.variance_fraction)


RIGHT = (Squared, WithVariance)

MUTANTS = (
    Mutant(OtherNoiseInTheTarget, "other noise in the target than in x_t"),
    Mutant(TargetNegated, "the sign of the target flipped"),
    Mutant(EpsilonWhateverIsPredicted, "epsilon as the target of a network that predicts velocity"),
    Mutant(ErrorNegated, "the sign of the loss flipped"),
    Mutant(MeanOverTheBatch, "the batch's mean as the value of each sample"),
    Mutant(DividedByTheBatchMean, "values divided by the batch's mean"),
    Mutant(SummedUp, "values that add up over the batch"),
    Mutant(OneNumber, "one value for the whole batch"),
    Mutant(TimesInFloat32, "times recorded in float32"),
    Mutant(OneStepOff, "the network asked one step below the time of x_t"),
    Mutant(OneStepLate, "the network asked one step above the time of x_t"),
    Mutant(OneTimeForAll, "the network asked at the first sample's time"),
    Mutant(ImportanceIgnored, "the importance weights of the time distribution ignored"),
    Mutant(WeightingIgnored, "the weighting ignored"),
    Mutant(WeightAtTheOppositeLogSNR, "the weighting asked at minus the log-SNR"),
    Mutant(WeightOneStepOff, "the weighting asked one step below"),
    Mutant(WeightOfTheOutputOnly, "a weight of the error in x_0 or epsilon put on the output's"),
    Mutant(WeightAsIfEpsilonWerePredicted, "a weight for epsilon's error, whatever is predicted"),
    Mutant(RootOfTheError, "a root whose gradient at 0 is not a number"),
    Mutant(ExponentialOfTheError, "a loss that overflows for large errors"),
    Mutant(Detached, "values without a gradient"),
    Mutant(GlobalNoise, "noise from the global generator"),
    Mutant(OneNoiseForAllBatches, "the same noise in every batch"),
    Mutant(NoiseUniform, "uniform noise in place of normal"),
    Mutant(VarianceUntrained, "a variance that gets no gradient"),
    Mutant(VarianceUpsideDown, "the ends of the variance's range exchanged"),
)
