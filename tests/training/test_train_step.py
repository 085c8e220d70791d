"""One update, against the same update written out."""

from __future__ import annotations

import copy

import pytest
import torch

from diffkit.assembly.training import TrainingComponents
from diffkit.bundled.averages.ema import EMA
from diffkit.bundled.learning_rates.constant import Constant
from diffkit.bundled.optimizers.adamw import AdamW
from diffkit.config.spec import TrainingSpec
from diffkit.core.noise import BatchNoise, mix
from diffkit.distributed.world import world_of
from diffkit.errors import SpecError, TrainingError
from diffkit.functional.ema import ema_decay
from diffkit.training.optimizer import Updates
from diffkit.training.order import DataOrder
from diffkit.training.train_step import TrainStep

SIZE = 8


def step_of(pipeline, points, average=None, optimizer=None, **settings) -> TrainStep:
    spec = TrainingSpec(**{"batch_size": SIZE, "warmup_steps": 500, **settings})
    return TrainStep(
        system=pipeline.system,
        averages={} if average is None else {"ema": average},
        components=TrainingComponents(
            optimizer=optimizer or AdamW(),
            learning_rate=Constant(rate=1e-2),
            averages={} if average is None else {"ema": EMA(decay=0.9)},
        ),
        dataset=points,
        spec=spec,
        seed=5,
        world=world_of(torch.device("cpu")),
    )


def expected_loss(pipeline, points, step: int) -> torch.Tensor:
    """Ho et al. (2020), eq. 14, at the rows, times and noise of this update."""
    parts = pipeline.parts
    x_0 = points.batch(DataOrder(len(points), 5).rows(step * SIZE, SIZE)).x_0
    host = torch.Generator().manual_seed(mix(5, "times", step))
    uniform = torch.rand(SIZE, generator=host, dtype=torch.float64)
    t = parts.times.draw(uniform, parts.schedule).t
    noise = BatchNoise(seed=5, step=step, rows=range(SIZE), total=SIZE)
    epsilon = noise.normal(x_0.shape)
    log_snr = parts.schedule.log_snr(t)[:, None]
    x_t = log_snr.sigmoid().sqrt().float() * x_0 + (-log_snr).sigmoid().sqrt().float() * epsilon
    output = parts.model(x_t, (1000.0 * t).float(), {})
    return (output - epsilon).square().flatten(1).mean(1).mean()


def test_an_update_is_that_of_adamw_on_the_simple_loss(pipeline, points) -> None:
    """In float32 sums of 8 rows in another order: 1e-6 of values of about 1."""
    by_hand = copy.deepcopy(pipeline.system)
    made = step_of(
        pipeline, points, clip_norm=0.5, optimizer=AdamW(weight_decay=0.1), warmup_steps=3
    )
    weights = list(by_hand.parameters())
    optimizer = torch.optim.AdamW(weights, lr=1e-2, betas=(0.9, 0.999), weight_decay=0.1)

    class Held:
        parts = by_hand.parts

    for step in range(4):
        result = made.make(step)
        loss = expected_loss(Held, points, step)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(weights, 0.5)
        optimizer.param_groups[0]["lr"] = 1e-2 * min(step + 1, 4) / 4
        optimizer.step()
        torch.testing.assert_close(result.loss, loss.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(result.norm, norm, rtol=1e-4, atol=1e-6)
    for found, wanted in zip(pipeline.system.parameters(), weights, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_micro_batches_make_the_same_update(pipeline, points) -> None:
    other = copy.deepcopy(pipeline.system)
    once = step_of(pipeline, points).make(0)

    class Other:
        system = other

    in_four = step_of(Other, points, accumulate=4).make(0)
    torch.testing.assert_close(once.loss, in_four.loss, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(once.norm, in_four.norm, rtol=1e-4, atol=1e-6)
    for whole, parts in zip(pipeline.system.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)


def test_the_average_follows(pipeline, points) -> None:
    """`average <- d average + (1 - d) weight`, with the rising decay of the first updates."""
    average = copy.deepcopy(pipeline.system).requires_grad_(False)
    wanted = [weight.detach().clone() for weight in average.parameters()]
    made = step_of(pipeline, points, average)
    for step in range(3):
        made.make(step)
        decay = ema_decay(step, 0.9)
        wanted = [
            decay * old + (1 - decay) * new.detach()
            for old, new in zip(wanted, pipeline.system.parameters(), strict=True)
        ]
    for found, value in zip(average.parameters(), wanted, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-7)


def test_an_update_that_is_not_finite_changes_nothing(pipeline, points) -> None:
    made = step_of(pipeline, points)
    made.make(0)
    before = [weight.detach().clone() for weight in pipeline.system.parameters()]
    with torch.no_grad():
        points._points[:] = torch.inf
    assert not made.make(1).norm.isfinite()
    for found, value in zip(pipeline.system.parameters(), before, strict=True):
        assert torch.equal(found, value)


def test_the_rate_rises_in_equal_steps_and_stays() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    components = TrainingComponents(optimizer=AdamW(), learning_rate=Constant(rate=8.0))
    updates = Updates(components, {"w": weight}, warmup_steps=3)
    assert [updates.rate(step, 10) for step in range(5)] == [2.0, 4.0, 6.0, 8.0, 8.0]


def test_rows_that_cannot_be_shared_are_refused(pipeline, points) -> None:
    with pytest.raises(SpecError, match="take a multiple of 3"):
        step_of(pipeline, points, accumulate=3)


def test_frozen_weights_are_no_training(pipeline, points) -> None:
    pipeline.system.requires_grad_(False)
    with pytest.raises(TrainingError, match="no weights that train"):
        step_of(pipeline, points)
