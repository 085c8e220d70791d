"""Observers that a spec names: configured, saved, missing; and what they may do."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from pathlib import Path

import pytest
import torch

import diffkit
from diffkit.core import Observer, SampleMetric
from diffkit.storage import run_directory

UNET = {"width": 4, "multipliers": [1], "blocks": 1, "attention": [], "groups": 2, "dropout": 0.5}
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "unet", "config": UNET},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 2,
    "training": {"batch_size": 4, "steps": 8, "log_every": 2, "warmup_steps": 0},
}
WATCHER = Path(__file__).parent / "watcher.py"


def built(*observers, host=None, **training):
    training = {**SPEC["training"], "observers": list(observers), **training}
    return diffkit.build({**SPEC, "training": training}, host=host, device="cpu")


def weights(pipeline):
    return [*pipeline.system.state_dict().values(), *pipeline.average.state_dict().values()]


class Notes(Observer):
    """Hears everything; marks are not needed."""

    def __init__(self) -> None:
        self.heard = []

    def diffkit_run_start(self, run) -> None:
        self.heard.append("start")

    def diffkit_step(self, step) -> None:
        self.heard.append(step)

    def diffkit_log(self, step, name, value) -> None:
        self.heard.append((step, name, value))

    def diffkit_run_end(self, step) -> None:
        self.heard.append(("end", step))


def test_one_of_a_spec_samples_a_grid_logs_it_and_ends_training(tmp_path, caplog) -> None:
    host = diffkit.Host(plugin_files=[WATCHER])
    grid = {"id": "local.grid", "config": {"every": 4, "below": 1e9}}
    pipeline, notes = built(grid, "jsonl", host=host), Notes()
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        pipeline.train(out=tmp_path / "run", observers=[notes], progress=False)
    assert "training ends after update 4: the loss is small enough" in caplog.text
    assert [h for h in notes.heard if not isinstance(h, tuple)] == ["start", 2, 4]
    logged = [h for h in notes.heard if isinstance(h, tuple) and len(h) == 3]
    (at, name, picture), (_, spread, value) = logged
    assert (at, name, tuple(picture.shape)) == (4, "samples", (1, 8, 32))
    assert spread == "spread"
    assert isinstance(value, float)
    assert run_directory.step_of(run_directory.latest_checkpoint(tmp_path / "run")) == 4
    lines = [json.loads(x) for x in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["step", "step", "log", "checkpoint"]
    assert run_directory.read_metrics(tmp_path / "run")[-1]["step"] == 4
    saved = json.loads((tmp_path / "run" / "spec.json").read_text())
    assert saved["training"]["observers"][0]["config"] == {"every": 4, "below": 1e9}
    assert saved["provenance"]["local.grid"]["sha256"]
    # It goes on from there, as any run.
    diffkit.load(tmp_path / "run", host=host).train(
        out=tmp_path / "run", resume=True, observers=[], progress=False
    )


def test_looking_on_changes_nothing() -> None:
    class Looks(Observer):
        def diffkit_step(self, run, step) -> None:
            assert torch.equal(run.sample(3, seed=5), run.sample(3, seed=5)), "dropout was on"
            one_by_one = run.sample(3, seed=5, batch_size=1)
            torch.testing.assert_close(one_by_one, run.sample(3, seed=5), rtol=0, atol=1e-5)
            for mine, theirs in ((run.system, pipeline.system), (run.average, pipeline.average)):
                pairs = zip(mine.parameters(), theirs.parameters(), strict=True)
                assert all(torch.equal(one, other) for one, other in pairs)
            torch.rand(5)
            seen.append(step)

    alone, pipeline, seen = built().train(progress=False), built(), []
    pipeline.train(observers=[Looks()], progress=False)
    assert seen == [2, 4, 6, 8]
    assert all(map(torch.equal, weights(alone), weights(pipeline)))


class Spread(SampleMetric):
    """The deviation of samples."""

    def samples_needed(self, dataset) -> int:
        return 4

    def measure(self, samples, dataset, seed, of=None) -> dict[str, float]:
        return {"spread": float(samples.std()), "count": float(len(samples))}


def test_it_measures_as_evaluate_does(tmp_path) -> None:
    found = []

    pipeline = built()
    config = {"id": "bits-per-dim", "config": {"max_samples": 4}}

    class Bits(Observer):
        def diffkit_run_end(self, run) -> None:
            found.append(run.evaluate(config, seed=2))
            found.append(run.evaluate(Spread(), seed=2, num=6, steps=2))

    pipeline.train(observers=[Bits()], progress=False)
    assert found == [
        pipeline.evaluate(metric=config, seed=2),
        pipeline.evaluate(metric=Spread(), seed=2, num=6, steps=2),
    ]


def test_what_it_does_to_the_weights_it_looks_at_is_done_to_a_copy() -> None:
    class Meddles(Observer):
        def diffkit_step(self, run, step, metrics) -> None:
            for module in (run.system, run.average):
                module.requires_grad_(False).eval()
                for weight in module.parameters():
                    weight.zero_()

    alone, pipeline = built().train(progress=False), built()
    pipeline.train(observers=[Meddles()], progress=False)
    assert all(map(torch.equal, weights(alone), weights(pipeline)))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("text", "a number, or a picture"),
        (torch.zeros(2, 8), "shape [2, 8]"),
        (float("nan"), ""),
    ],
)
def test_what_cannot_be_logged_is_said(value, words, caplog) -> None:
    class Logs(Observer):
        def diffkit_step(self, run) -> None:
            run.log("x", value)

    with caplog.at_level(logging.WARNING, logger="diffkit"):
        built().train(observers=[Logs()], steps=2, progress=False)
    assert "is disabled from here on: diffkit_step raised SpecError" in caplog.text
    assert words in caplog.text


class ForEver(Observer):
    """Samples until somebody ends it."""

    def diffkit_step(self, run) -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            run.sample(2)


def test_one_that_samples_for_ever_is_ended_by_a_signal(tmp_path) -> None:
    with pytest.raises(diffkit.TrainingInterrupted):
        built().train(out=tmp_path / "run", observers=[ForEver()], progress=False)
    assert run_directory.step_of(run_directory.latest_checkpoint(tmp_path / "run")) == 2


def test_one_that_samples_for_ever_is_ended_by_the_time_of_training(tmp_path) -> None:
    class Slow(Observer):
        def diffkit_step(self, run) -> None:
            while True:
                run.sample(2)

    built().train(out=tmp_path / "run", observers=[Slow()], max_seconds=1.0, progress=False)
    assert run_directory.step_of(run_directory.latest_checkpoint(tmp_path / "run")) >= 2


BITS = {"id": "bits-per-dim", "config": {"max_samples": 4}}


@pytest.mark.parametrize("ends", ["a signal", "the time"])
def test_one_that_measures_for_ever_is_ended_too(ends, tmp_path) -> None:
    class Measures(Observer):
        def diffkit_step(self, run) -> None:
            if ends == "a signal":
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            while True:
                run.evaluate(BITS)

    pipeline, settings = built(), {"out": tmp_path / "run", "progress": False}
    if ends == "a signal":
        with pytest.raises(diffkit.TrainingInterrupted):
            pipeline.train(observers=[Measures()], **settings)
    else:
        pipeline.train(observers=[Measures()], max_seconds=0.5, **settings)
    assert run_directory.step_of(run_directory.latest_checkpoint(tmp_path / "run")) >= 2


def test_those_that_are_named_in_train_are_those_of_the_spec(tmp_path) -> None:
    named = ["jsonl", {"id": "jsonl", "config": {"file": "more.jsonl"}}]
    seen = []

    class Watches:
        @diffkit.hookimpl
        def diffkit_step(self, step) -> None:
            seen.append(step)

    pipeline = built().train(out=tmp_path / "run", observers=[*named, Watches()], progress=False)
    assert seen == [2, 4, 6, 8]
    assert (tmp_path / "run" / "log.jsonl").exists()
    assert (tmp_path / "run" / "more.jsonl").exists()
    assert [o.id for o in pipeline.spec.training.observers] == ["diffkit.jsonl"] * 2


@pytest.mark.parametrize("wrong", [42, object(), torch.zeros(2)])
def test_what_has_no_hook_is_no_observer(wrong) -> None:
    words = r"observers is objects with methods that are hooks"
    with pytest.raises(diffkit.SpecError, match=words):
        built().train(observers=[wrong], progress=False)
    with pytest.raises(diffkit.SpecError, match=words):
        built().sample(2, observers=[wrong])


def test_a_missing_one_is_named_and_the_rest_works(tmp_path) -> None:
    host = diffkit.Host(plugin_files=[WATCHER])
    pipeline = built({"id": "local.grid", "config": {"every": 2}}, host=host)
    pipeline.train(out=tmp_path / "run", steps=2, progress=False)
    spec = json.loads((tmp_path / "run" / "spec.json").read_text())
    with pytest.warns(UserWarning, match=r"training.observers\[0\]: no observer is called 'local"):
        again = diffkit.load(tmp_path / "run", device="cpu")
    assert torch.equal(again.sample(2), pipeline.sample(2))
    kept = again.spec.model_dump(mode="json")
    assert kept["training"]["observers"] == spec["training"]["observers"]
    assert kept["provenance"]["local.grid"] == spec["provenance"]["local.grid"]
    with pytest.warns(UserWarning, match="local.grid"):
        again.train(out=tmp_path / "run", resume=True, steps=4, progress=False)
    wrong = {"id": "jsonl", "config": {"flie": "x"}}
    with pytest.raises(diffkit.SpecError, match="there is no such key"):
        built(wrong)


def test_outside_of_training_there_is_nothing_to_do() -> None:
    errors = []

    class Samples:
        @diffkit.hookimpl
        def diffkit_sample(self, run) -> None:
            try:
                run.stop("now")
            except diffkit.SpecError as error:
                errors.append(str(error))

    built().sample(2, observers=[Samples()])
    assert "run.stop: nothing is trained here" in errors[0]


def test_a_hook_that_there_is_not_is_said(caplog) -> None:
    class Misspelled(Observer):
        def diffkit_stpe(self, run) -> None:
            pass

    with caplog.at_level(logging.WARNING, logger="diffkit"):
        built().train(observers=[Misspelled()], steps=1, progress=False)
    assert "did you mean 'diffkit_step'?" in caplog.text
