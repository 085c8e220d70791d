"""Mistakes of guidance, in classifier-free guidance."""

from __future__ import annotations

from dataclasses import replace

import torch

from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.core.denoiser import Denoiser
from diffkit.core.guidance import Guidance
from diffkit.core.guided import GuidedDenoiser, joined, said_of_copies
from diffkit.core.prediction import GaussianPrediction

from .mutant import Mutant


class Led(Denoiser):
    def __init__(self, owner, towards, away):
        self.owner, self.towards, self.away = owner, towards, away

    @property
    def process(self):
        return self.owner.process_of(self.towards)

    @property
    def data_range(self):
        return self.owner.range_of(self.towards)

    def start(self, inputs):
        return self.owner.started(self, inputs)

    def __call__(self, x_t, t, *, given=None, times=None):
        told = {"given": given, "times": times}
        return self.owner.led(self.towards, self.away, x_t, t, told)


class Right(Guidance):
    """A right one, which the mutants below change in one thing."""

    needs_null = True
    scale = 3.0

    def guide(self, make_denoiser, conditioning):
        return Led(self, make_denoiser(conditioning.condition), make_denoiser(conditioning.null))

    def process_of(self, denoiser):
        return denoiser.process

    def range_of(self, denoiser):
        return denoiser.data_range

    def started(self, led, inputs):
        return Led(self, led.towards.start(inputs), led.away.start(inputs))

    def combined(self, towards, away):
        return away + self.scale * (towards - away)

    def led(self, towards, away, x_t, t, told):
        first, second = towards(x_t, t, **told), away(x_t, t, **told)
        return first.with_output(self.combined(first.output, second.output))


class Joint(Right):
    """A right one, in one call."""

    def both(self, conditioning):
        return {
            name: torch.cat([v, conditioning.null[name]])
            for name, v in conditioning.condition.items()
        }

    def guide(self, make_denoiser, conditioning):
        return Led(
            self, make_denoiser(conditioning.condition), make_denoiser(self.both(conditioning))
        )

    def started(self, led, inputs):
        twice = {name: torch.cat([value, value]) for name, value in inputs.items()}
        return Led(self, led.towards.start(inputs), led.away.start(twice))

    def led(self, towards, away, x_t, t, told):
        first, second = said_of_copies(away, 2, x_t, t, **told)
        return first.with_output(self.combined(first.output, second.output))


class WeightsThatAddUpToMore(Right):
    def combined(self, towards, away):
        return (1 + self.scale) * towards - (self.scale - 1) * away


class Nothing(Right):
    def combined(self, towards, away):
        return towards


class ForgetsTheRange(Right):
    def range_of(self, denoiser):
        return None


class AnotherProcess(Right):
    def process_of(self, denoiser):
        return VariancePreserving(schedule=Cosine())


class InterleavedConditions(Joint):
    def both(self, conditioning):
        return {
            name: torch.stack([v, conditioning.null[name]], dim=1).flatten(0, 1)
            for name, v in conditioning.condition.items()
        }


class MeanOverTheBatch(Right):
    def combined(self, towards, away):
        return away + self.scale * (towards - away).mean(0, keepdim=True)


class FirstTimeForAll(Right):
    def led(self, towards, away, x_t, t, told):
        if isinstance(t, torch.Tensor) and t.ndim:
            t = float(t[0])
        return super().led(towards, away, x_t, t, told)


class OfAnotherSample(Right):
    def led(self, towards, away, x_t, t, told):
        said = super().led(towards, away, x_t, t, told)
        return replace(said, x_t=1.1 * x_t)


class InPlace(Right):
    def led(self, towards, away, x_t, t, told):
        said = super().led(towards, away, x_t, t, told)
        x_t.add_(0.01)
        return said


class StartIsLost(Right):
    def started(self, led, inputs):
        return led


class InputsOfHalfTheBatch(Joint):
    def started(self, led, inputs):
        return Led(self, led.towards.start(inputs), led.away.start(inputs))


class TellsNothing(Right):
    def led(self, towards, away, x_t, t, told):
        return super().led(towards, away, x_t, t, {})


class TellsTheFirstOnly(Right):
    def led(self, towards, away, x_t, t, told):
        first, second = towards(x_t, t, **told), away(x_t, t)
        return first.with_output(self.combined(first.output, second.output))


class TellsHalfTheBatch(Joint):
    def led(self, towards, away, x_t, t, told):
        times = torch.cat([t, t]) if isinstance(t, torch.Tensor) and t.ndim else t
        first, second = away(torch.cat([x_t, x_t]), times, **told).chunk(2)
        return first.with_output(self.combined(first.output, second.output))


class MadeAnew(Right):
    def led(self, towards, away, x_t, t, told):
        said = super().led(towards, away, x_t, t, told)
        return GaussianPrediction(said.output, said.x_t, said.target, said.scales)


class ExtrasOfTheWholeBatch(Joint):
    def led(self, towards, away, x_t, t, told):
        said = super().led(towards, away, x_t, t, told)
        return said.with_extras({n: torch.cat([v, v]) for n, v in said.extras.items()})


class Short(GuidedDenoiser):
    def __init__(self, *denoisers, copies=1):
        super().__init__(*denoisers, copies=copies)

    def combine(self, predictions, x_t, t):
        first, second = predictions
        return first.with_output(second.output + 3.0 * (first.output - second.output))


class Combined(Guidance):
    """A right one, of which only `combine` is written."""

    needs_null = True

    def guide(self, make_denoiser, conditioning):
        return Short(make_denoiser(conditioning.condition), make_denoiser(conditioning.null))


class CombinedOfCopies(Guidance):
    """The same in one call."""

    needs_null = True

    def guide(self, make_denoiser, conditioning):
        both = joined(conditioning.condition, conditioning.null)
        return Short(make_denoiser(both), copies=2)


RIGHT = (Right, Joint, Combined, CombinedOfCopies)
MUTANTS = (
    Mutant(WeightsThatAddUpToMore, "weights that do not add up to 1: the two conventions mixed"),
    Mutant(Nothing, "no effect"),
    Mutant(ForgetsTheRange, "the data's range lost, and clipping with it"),
    Mutant(AnotherProcess, "a process of its own"),
    Mutant(InterleavedConditions, "conditions in another order than the samples of one batch"),
    Mutant(MeanOverTheBatch, "one direction for the whole batch"),
    Mutant(FirstTimeForAll, "the first sample's time for all"),
    Mutant(OfAnotherSample, "a prediction about another sample than was asked"),
    Mutant(InPlace, "the sample written to"),
    Mutant(StartIsLost, "`start` not handed on to what is guided"),
    Mutant(InputsOfHalfTheBatch, "inputs of as many rows as samples for a batch of twice as many"),
    Mutant(TellsNothing, "what comes with a question not handed on"),
    Mutant(TellsTheFirstOnly, "what comes with a question handed on to one of two denoisers"),
    Mutant(TellsHalfTheBatch, "what comes with a question given for half of a joint batch"),
    Mutant(MadeAnew, "the network's extras lost in a prediction made anew"),
    Mutant(ExtrasOfTheWholeBatch, "extras with two rows a sample"),
)
