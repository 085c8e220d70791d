"""The interfaces carry a process that is not Gaussian: masking of tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from diffkit.bundled.samplers.ancestral import Ancestral
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.bundled.times.uniform import Uniform
from diffkit.core.denoiser import ModelDenoiser
from diffkit.core.loss import Batch, Loss, LossContext, LossRecord
from diffkit.core.model import EpsilonModel
from diffkit.core.noise import BatchNoise, SampleNoise
from diffkit.core.prediction import Prediction
from diffkit.core.process import ForwardProcess

LAW = torch.tensor([0.5, 0.3, 0.2])
MASK = len(LAW)


@dataclass(frozen=True, eq=False)
class TokenPrediction(Prediction):
    """Logits over the vocabulary, which are what is known of the data."""

    logits: torch.Tensor

    @property
    def x_0(self):
        return self.logits


class Masking(ForwardProcess):
    """Each token is masked by time t with probability sigmoid(-log_snr(t)), and stays so."""

    def __init__(self, *, schedule):
        self._schedule = schedule

    @property
    def schedule(self):
        return self._schedule

    def masked(self, t):
        return torch.sigmoid(-self._schedule.log_snr(t))

    def draw(self, x_0, noise, condition=None):
        return noise.uniform(x_0.shape)

    def diffuse(self, x_0, t, drawn):
        masked = self.masked(t)
        if masked.ndim:
            masked = masked.reshape(-1, *([1] * (x_0.ndim - 1)))
        return torch.where(drawn < masked, MASK, x_0)

    def prior(self, shape, noise, condition=None):
        return torch.full(tuple(shape), MASK)

    def interpret(self, output, x_t, t):
        return TokenPrediction(output)

    def reverse(self, prediction, x_t, t, s, noise):
        revealed = 1 - self.masked(s) / self.masked(t)
        above = prediction.x_0.softmax(-1).cumsum(-1)
        choice = (noise.uniform(x_t.shape)[..., None] >= above).sum(-1).clamp(max=MASK - 1)
        reveal = (x_t == MASK) & (noise.uniform(x_t.shape) < revealed)
        return torch.where(reveal, choice, x_t)


class CrossEntropy(Loss):
    process_class = Masking

    def __call__(self, batch, context):
        t, importance = context.draw_times(len(batch))
        epsilon = context.process.draw(batch.x_0, context.noise, batch.given)
        x_t = context.process.diffuse(batch.x_0, t, epsilon)
        logits = context.denoiser(x_t, t).x_0
        errors = torch.nn.functional.cross_entropy(
            logits.movedim(-1, 1), batch.x_0, reduction="none"
        )
        return LossRecord((importance * (errors * (x_t == MASK)).mean(1)).float(), t)


class Lookup(EpsilonModel):
    """Knows the law of each token; sees what is not masked."""

    def __init__(self, *, law):
        super().__init__()
        self.logits = torch.nn.Parameter(law.log())
        self.asked = []

    def forward(self, x, c_noise, condition):
        self.asked.append(c_noise)
        seen = torch.nn.functional.one_hot(x.clamp(max=MASK - 1), MASK)
        sure = torch.where(seen.bool(), 0.0, -math.inf)
        return torch.where((x == MASK)[..., None], self.logits, sure)


@pytest.fixture
def process():
    return Masking(schedule=Linear())


def trajectory(process, model, count, steps, indices=None):
    shape = (count, 5)
    noise = SampleNoise(seed=8, indices=range(count) if indices is None else indices)
    times = Trailing().times(steps, process.schedule)
    denoiser = ModelDenoiser(model, process)
    x = process.prior(shape, noise)
    with torch.no_grad():
        return list(Ancestral().trajectory(denoiser, x, times, noise, {}))


def test_diffusion_masks_with_the_right_probability(process):
    x_0 = torch.zeros(200, 100, dtype=torch.long)
    for t in (0.1, 0.5, torch.full((200,), 0.5, dtype=torch.float64)):
        noise = SampleNoise(seed=1, indices=range(200))
        x_t = process.diffuse(x_0, t, process.draw(x_0, noise))
        masked = process.masked(t).flatten()[0].item()
        # Five standard errors: a false alarm once in 1.7 million.
        bound = 5 * math.sqrt(masked * (1 - masked) / x_0.numel())
        assert abs((x_t == MASK).double().mean().item() - masked) < bound
    assert torch.equal(process.diffuse(x_0, 0.0, torch.zeros(200, 100)), x_0)


@pytest.mark.parametrize("steps", [1, 7])
def test_ancestral_sampling_reaches_the_law_of_the_data(process, steps):
    model, count = Lookup(law=LAW), 2000
    states = trajectory(process, model, count, steps)
    assert len(states) == len(model.asked) == steps
    assert states[-1].t == 0.0
    tokens = states[-1].x
    assert tokens.dtype == torch.long
    frequencies = torch.bincount(tokens.flatten(), minlength=MASK + 1) / tokens.numel()
    # Nothing stays masked. Frequencies to five standard errors: once in 600,000 for all three.
    assert frequencies[MASK] == 0
    bound = 5 * (LAW * (1 - LAW) / tokens.numel()).sqrt()
    assert ((frequencies[:MASK] - LAW).abs() < bound).all()


def test_half_way_as_many_are_masked_as_the_process_says(process):
    states = trajectory(process, Lookup(law=LAW), 2000, 4)
    for state in states[:-1]:
        masked = process.masked(state.t).item()
        share = (state.x == MASK).double().mean().item()
        assert abs(share - masked) < 5 * math.sqrt(masked * (1 - masked) / state.x.numel())


def test_revealed_tokens_stay(process):
    states = trajectory(process, Lookup(law=LAW), 50, 10)
    for before, after in pairwise(states):
        known = before.x != MASK
        assert torch.equal(before.x[known], after.x[known])


def test_a_sample_does_not_depend_on_its_batch(process):
    alone = trajectory(process, Lookup(law=LAW), 1, 10, indices=[6])[-1].x
    assert torch.equal(alone[0], trajectory(process, Lookup(law=LAW), 7, 10)[-1].x[6])


def test_a_loss_for_it_is_smallest_at_the_law_of_the_data(process):
    count = 4000
    noise = SampleNoise(seed=2, indices=range(count))
    x_0 = (noise.uniform((count, 5))[..., None] >= LAW.cumsum(0)).sum(-1).clamp(max=MASK - 1)

    def loss(law):
        batch_noise = BatchNoise(seed=0, step=0, rows=range(count), total=count)
        uniform = torch.linspace(0, 1, count + 1, dtype=torch.float64)[:-1]
        model = Lookup(law=law)
        context = LossContext(
            denoiser=ModelDenoiser(model, process),
            process=process,
            noise=batch_noise,
            draw_times=lambda n: Uniform().draw(uniform[:n], process.schedule),
            step=0,
        )
        record = CrossEntropy()(Batch(x_0), context)
        assert record.values.shape == record.t.shape == (count,)
        record.values.mean().backward()
        return record.values.mean().item(), model.logits.grad

    best, gradient = loss(LAW)
    # The gradient is the error of the empirical law, 5 standard errors of 20,000 tokens at most.
    assert gradient.abs().max() < 5 * math.sqrt(0.25 / (5 * count))
    for other in ([0.4, 0.4, 0.2], [0.5, 0.2, 0.3], [1 / 3] * 3):
        assert loss(torch.tensor(other))[0] > best
