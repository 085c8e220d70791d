"""Right losses and samplers that ask, or are asked, in ways that few are."""

from __future__ import annotations

from typing import ClassVar

import torch

from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.core.example import Example
from diffkit.core.gaussian_sampler import GaussianStepSampler
from diffkit.core.loss import Loss, LossRecord
from diffkit.core.process import GaussianProcess
from diffkit.core.sampler import Sampler, State, StepSampler
from diffkit.core.weighting import Weighting


def euler(denoiser, x_t, t, s, **told):
    """A step along the predicted noise."""
    said = denoiser(x_t, t, **told)
    x_s = denoiser.process.diffuse(said.x_0, s, said.epsilon)
    return State(x_s, s, said)


class Telling(StepSampler):
    """Tells the network where the step goes, and where it is."""

    process_class: ClassVar = GaussianProcess
    gives: ClassVar = ("s", "here")

    def step(self, denoiser, x_t, t, s, noise):
        return euler(denoiser, x_t, t, s, times={"s": s}, given={"here": x_t})


class Needing(StepSampler):
    """Takes what the network gives beside its output, in a weight that is 1."""

    process_class: ClassVar = GaussianProcess
    extras: ClassVar = ("sure",)

    @classmethod
    def examples(cls):
        return [Example(extras={"sure": lambda count: torch.ones(count, 1)})]

    def step(self, denoiser, x_t, t, s, noise):
        stepped = euler(denoiser, x_t, t, s)
        sure = stepped.prediction.extras["sure"].reshape(-1, *[1] * (x_t.ndim - 1))
        return State(sure * stepped.x, s, stepped.prediction)


class InFours(GaussianStepSampler):
    """DDIM of particles that change places in groups of four."""

    @property
    def order(self):
        return 1

    @property
    def group(self):
        return 4

    def step(self, prediction, t, s, noise):
        x_s = s.alpha * prediction.x_0 + s.sigma * prediction.epsilon
        return x_s.reshape(-1, 4, *x_s.shape[1:]).roll(1, dims=1).reshape(x_s.shape)


class OfPictures(GaussianStepSampler):
    """Takes pictures alone: its steps are computed by channel, in rows and columns."""

    @classmethod
    def examples(cls):
        return [Example(shape=(2, 4, 4))]

    @property
    def order(self):
        return 1

    def step(self, prediction, t, s, noise):
        found = s.alpha * prediction.x_0 + s.sigma * prediction.epsilon
        return torch.einsum("bchw->bchw", found)


class Painting(StepSampler):
    """Needs a picture, which no example gives."""

    process_class: ClassVar = GaussianProcess
    inputs: ClassVar = ("picture",)

    def __init__(self, *, strength: float = 0.5) -> None:
        self._strength = strength

    def step(self, denoiser, x_t, t, s, noise):
        return euler(denoiser, x_t, t, s)


class Flat(Weighting):
    """Fails as what is asked with a shape that it does not take."""

    def weight(self, log_snr):
        return log_snr.reshape(7, 11)


class OfFlows(StepSampler):
    """Along the straight lines of a rectified flow, and of nothing else."""

    process_class: ClassVar = RectifiedFlow

    def step(self, denoiser, x_t, t, s, noise):
        if not isinstance(denoiser.process, RectifiedFlow):
            raise TypeError("a rectified flow is needed")
        return euler(denoiser, x_t, t, s)


class FlowMatching(Loss):
    """Of rectified flows alone, at their velocity."""

    process_class: ClassVar = RectifiedFlow

    def __call__(self, batch, context):
        drawn = context.draw_times(len(batch))
        epsilon = context.process.draw(batch.x_0, context.noise, batch.given)
        said = context.denoiser(context.process.diffuse(batch.x_0, drawn.t, epsilon), drawn.t)
        error = (said.epsilon - said.x_0 - (epsilon - batch.x_0)).square().flatten(1).mean(1)
        return LossRecord(drawn.weight.to(error) * error, drawn.t)


class NeedingLoss(FlowMatching):
    """And what the network gives beside its output counts, though nothing can be learned there."""

    extras: ClassVar = ("sure",)

    @classmethod
    def examples(cls):
        return [Example(extras={"sure": lambda count: torch.ones(count, 3)})]

    def __call__(self, batch, context):
        drawn = context.draw_times(len(batch))
        epsilon = context.process.draw(batch.x_0, context.noise, batch.given)
        said = context.denoiser(context.process.diffuse(batch.x_0, drawn.t, epsilon), drawn.t)
        error = (said.epsilon - epsilon).square().flatten(1).mean(1) * said.extras["sure"].mean(1)
        return LossRecord(drawn.weight.to(error) * error, drawn.t)


class TwoTimes(Loss):
    """Asks for its times twice, and the network at two of each sample in one question."""

    process_class: ClassVar = GaussianProcess

    def __call__(self, batch, context):
        count, ones = len(batch), [1] * (batch.x_0.ndim - 1)
        t, weight = context.draw_times(count)
        second = torch.maximum(context.draw_uniform(count) * context.draw_times(count).t, t / 2)
        times = torch.cat([t, context.process.schedule.snap(second)])
        epsilon = context.process.draw(batch.x_0, context.noise, batch.given).repeat(2, *ones)
        x_t = context.process.diffuse(batch.x_0.repeat(2, *ones), times, epsilon)
        error = (context.denoiser(x_t, times).epsilon - epsilon).square().flatten(1).mean(1)
        return LossRecord(weight.to(error) * (error[:count] + error[count:]), t)


ASKERS = (Telling, Needing, InFours, OfPictures, OfFlows, FlowMatching, NeedingLoss, TwoTimes)
RUN = "visits_its_times", "follows_the_flow", "values_are_of_their_own_sample"
"""Laws that need an exact answer, of samplers and of losses: one that was skipped says nothing."""


def was_checked(outcomes) -> bool:
    """Whether the laws of its own kind were measured at all."""
    passed = {o.check.name for o in outcomes if o.status == "passed"}
    kind = outcomes[0].subject.cls
    return set(RUN[:2] if issubclass(kind, Sampler) else RUN[2:]) <= passed


class EachToken(Loss):
    """A time for each token. Chen et al. (2024), "Diffusion forcing", Algorithm 1."""

    process_class = GaussianProcess

    @classmethod
    def examples(cls):
        return [Example({}, shape=(3, 2))]

    def __call__(self, batch, context):
        drawn = [context.draw_times(len(batch)) for _ in range(batch.x_0.shape[1])]
        t = torch.stack([one.t for one in drawn], dim=1)
        weight = torch.stack([one.weight for one in drawn], dim=1)
        epsilon = context.process.draw(batch.x_0, context.noise, batch.given)
        said = context.denoiser(context.process.diffuse(batch.x_0, t, epsilon), t)
        error = (said.epsilon - epsilon).square().mean(2)
        return LossRecord((weight.to(error) * error).mean(1), t.mean(1))
