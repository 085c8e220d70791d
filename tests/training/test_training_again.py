"""More training of one pipeline is the same training; what observers do does not reach it."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.bundled.losses.simple import Simple
from diffkit.core.loss import LossRecord
from diffkit.storage import run_directory

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 2,
    "training": {"batch_size": 16, "log_every": 2, "warmup_steps": 10},
}


def weights(pipeline: diffkit.Pipeline) -> list[torch.Tensor]:
    systems = [s for s in (pipeline.system, pipeline.average) if s is not None]
    return [w.detach().clone() for s in systems for w in (*s.parameters(), *s.buffers())]


def equal(one: diffkit.Pipeline, other: diffkit.Pipeline) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training": {**SPEC["training"], "ema_decay": None}},
        {
            "training": {
                **SPEC["training"],
                "optimizer": {"id": "adam", "config": {"weight_decay": 0.1}},
            }
        },
        {"times": {"id": "importance", "config": {"history": 4}}},
    ],
)
def test_two_calls_are_one(changes) -> None:
    once = diffkit.build({**SPEC, **changes}).train(steps=9, progress=False)
    twice = diffkit.build({**SPEC, **changes}).train(steps=4, progress=False)
    twice.train(steps=5, progress=False)
    assert equal(once, twice)
    assert twice._weights.steps == 9


def test_numbers_go_on_in_whichever_directory(tmp_path) -> None:
    pipeline = diffkit.build(SPEC).train(steps=4, out=tmp_path / "a", progress=False)
    pipeline.train(steps=4, out=tmp_path / "b", progress=False)
    steps = [[m["step"] for m in run_directory.read_metrics(tmp_path / n)] for n in ("a", "b")]
    assert steps == [[2, 4], [6, 8]]
    assert run_directory.latest_checkpoint(tmp_path / "b").name == "step-00000008"
    # What is recorded is the number in all, so that resuming means the same.
    assert diffkit.load(tmp_path / "b").spec.training.steps == 8
    assert pipeline.save(tmp_path / "c").joinpath("checkpoints/step-00000008").is_dir()


def test_loaded_weights_begin_anew(tmp_path) -> None:
    """Without the state of an optimiser there is nothing to go on from but the weights."""
    first = diffkit.build(SPEC).train(steps=4, progress=False)
    loaded = diffkit.load(first.save(tmp_path / "run"))
    loaded.train(steps=2, progress=False)
    assert loaded._weights.steps == 2


class Meddles:
    """Samples, saves and draws while training is under way."""

    def __init__(self, folder) -> None:
        self.folder, self.pipeline, self.pairs, self.saved = folder, None, [], []

    @diffkit.hookimpl
    def diffkit_step(self, step) -> None:
        pair = [self.pipeline.sample(2, seed=1, progress=False) for _ in range(2)]
        self.pairs.append(torch.equal(*pair))
        run = self.pipeline.save(self.folder / str(step))
        self.saved.append(run_directory.step_of(run_directory.latest_checkpoint(run)))
        assert torch.equal(diffkit.load(run, device="cpu").sample(2, seed=1), pair[0])


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_an_observer_may_sample_and_save(ema_decay, tmp_path) -> None:
    model = {"id": "unet", "config": {"width": 4, "groups": 2, "multipliers": [1], "dropout": 0.5}}
    model["config"] |= {"blocks": 1, "attention": []}
    training = {**SPEC["training"], "ema_decay": ema_decay, "batch_size": 4}
    spec = {**SPEC, "model": model, "training": training}
    alone = diffkit.build(spec).train(steps=4, progress=False)
    observed, meddles = diffkit.build(spec), Meddles(tmp_path)
    meddles.pipeline = observed
    observed.train(steps=4, progress=False, observers=[meddles])
    assert meddles.pairs == [True, True], "dropout was on"
    assert meddles.saved == [2, 4]
    assert equal(alone, observed)


class Asks(Simple):
    """Looks at the average, and reports two terms."""

    seen: list = []  # noqa: RUF012 - what the loss saw, for the test

    def __call__(self, batch, context) -> LossRecord:
        record = super().__call__(batch, context)
        self.seen.append(context.average)
        terms = {"half": 0.5 * record.values.detach(), "one": torch.ones(len(batch))}
        if context.average is not None:
            t = torch.full((len(batch),), 0.5, dtype=torch.float64)
            assert not context.average(batch.x_0, t).output.requires_grad
        return LossRecord(record.values, record.t, terms)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_loss_sees_the_average_where_one_is_kept(ema_decay) -> None:
    Asks.seen.clear()
    pipeline = diffkit.build({**SPEC, "loss": Asks()})
    pipeline.train(steps=3, ema_decay=ema_decay, progress=False)
    assert [seen is not None for seen in Asks.seen] == [ema_decay is not None] * 3


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_terms_of_a_loss_are_logged(accumulate) -> None:
    logged = []

    class Notes:
        @diffkit.hookimpl
        def diffkit_step(self, metrics) -> None:
            logged.append(dict(metrics))

    pipeline = diffkit.build({**SPEC, "loss": Asks()})
    pipeline.train(steps=4, accumulate=accumulate, progress=False, observers=[Notes()])
    assert len(logged) == 2
    for metrics in logged:
        assert metrics["loss/half"] == pytest.approx(0.5 * metrics["loss"], rel=1e-6)
        assert metrics["loss/one"] == 1.0
