"""The loop: when it ends, what it logs and writes, and what it goes on from."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import diffkit
from diffkit.assembly.build import training_components, with_training_changed
from diffkit.assembly.describe import describe
from diffkit.distributed.world import world_of
from diffkit.errors import DataError
from diffkit.plugins.events import Events
from diffkit.storage.run_directory import checkpoints, step_of
from diffkit.storage.weights import Weights
from diffkit.training.trainer import Trainer


class Watching:
    """Writes down what observers are told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    @diffkit.hookimpl
    def diffkit_run_start(self, run) -> None:
        self.told.append(("start", 0))

    @diffkit.hookimpl
    def diffkit_step(self, run, step, metrics) -> None:
        self.told.append(("step", step))

    @diffkit.hookimpl
    def diffkit_checkpoint(self, run, step, path) -> None:
        self.told.append(("checkpoint", step))

    @diffkit.hookimpl
    def diffkit_run_end(self, run, step) -> None:
        self.told.append(("end", step))


def trainer_of(pipeline, points, directory=None, weights=None, watching=(), **settings) -> Trainer:
    changes = {"batch_size": 4, "ema_decay": None, **settings}
    assembly = with_training_changed(pipeline._assembly, changes, pipeline.host)
    spec = describe(assembly.blueprint, assembly.gathered.data)
    weights = Weights(pipeline.system) if weights is None else weights
    return Trainer(
        weights=weights,
        dataset=points,
        spec=spec,
        components=training_components(assembly),
        directory=directory,
        world=world_of(torch.device("cpu")),
        events=Events((), watching),
        goes_on_from=weights.continuation,
    )


def test_what_it_logs_and_writes_and_when(pipeline, points, tmp_path) -> None:
    watching = Watching()
    settings = {"steps": 7, "log_every": 3, "checkpoint_every": 4, "keep": 5}
    trainer_of(pipeline, points, tmp_path, None, (watching,), **settings).train(show=False)
    steps = [("step", 3), ("checkpoint", 4), ("step", 6), ("step", 7), ("checkpoint", 7)]
    assert watching.told == [("start", 0), *steps, ("end", 7)]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 7]
    assert [step_of(path) for path in checkpoints(tmp_path)] == [4, 7]


def test_time_ends_it(pipeline, points) -> None:
    trainer = trainer_of(pipeline, points, steps=10**6, max_seconds=1e-6)
    trainer.train(show=False)
    assert 0 < trainer.state.step < 100


def test_two_trainings_are_one(pipeline, points) -> None:
    """A continuation holds all that a run of seven updates has after the third."""
    twice = Weights(pipeline.system)
    trainer_of(pipeline, points, None, twice, steps=3).train(show=False)
    assert twice.steps == 3
    trainer_of(pipeline, points, None, twice, steps=4).train(show=False)
    once = diffkit.build(pipeline.spec, device="cpu")
    trainer_of(once, points, steps=7).train(show=False)
    assert twice.steps == 7
    for a, b in zip(pipeline.system.parameters(), once.system.parameters(), strict=True):
        assert torch.equal(a, b)


def test_more_training_has_its_own_time(pipeline, points) -> None:
    """Its limit is beside what was spent before."""
    weights = Weights(pipeline.system)
    trainer_of(pipeline, points, None, weights, steps=3).train(show=False)
    weights.continuation = replace(weights.continuation, seconds=1000.0)
    trainer_of(pipeline, points, None, weights, steps=2, max_seconds=60.0).train(show=False)
    assert weights.steps == 5


def test_it_leaves_modules_as_they_sample(pipeline, points) -> None:
    trainer_of(pipeline, points, steps=1).train(show=False)
    assert not any(module.training for module in pipeline.system.modules())


def test_data_of_another_shape_are_refused_before_anything_is_written(
    pipeline, points, tmp_path
) -> None:
    type(points).shape = property(lambda self: (3,))
    try:
        with pytest.raises(DataError, match=r"\[3\]"):
            trainer_of(pipeline, points, tmp_path, steps=1)
    finally:
        type(points).shape = property(lambda self: (2,))
    assert not list(tmp_path.iterdir())
