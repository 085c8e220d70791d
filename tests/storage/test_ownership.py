"""What diffkit did not write is never replaced, and a checkpoint is no run."""

from __future__ import annotations

import os

import pytest

import diffkit
from diffkit.storage import run_directory

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "training": {"batch_size": 8, "checkpoint_every": 2, "warmup_steps": 0, "steps": 2},
}


@pytest.fixture
def pipeline() -> diffkit.Pipeline:
    return diffkit.build(SPEC)


@pytest.fixture
def run(pipeline, tmp_path):
    pipeline.train(out=tmp_path / "run", progress=False)
    return tmp_path / "run"


def contents(folder) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p): p.read_bytes() for p in found}


@pytest.mark.parametrize("part", ["checkpoints/step-00000002", "checkpoints"])
def test_a_part_of_a_run_is_no_place_for_another(part, run, pipeline) -> None:
    untouched = contents(run)
    for write in (
        lambda: pipeline.save(run / part),
        lambda: diffkit.build(SPEC).train(out=run / part, resume=True, progress=False),
        lambda: diffkit.build(SPEC).train(out=run / part, progress=False),
    ):
        with pytest.raises(diffkit.CheckpointError):
            write()
    assert contents(run) == untouched
    diffkit.load(run)


def test_a_checkpoint_is_loaded_through_its_run(run) -> None:
    with pytest.raises(diffkit.CheckpointError, match=f"name its run, {run}, and choose it there"):
        diffkit.load(run / "checkpoints" / "step-00000002")


@pytest.mark.parametrize("name", ["spec.json", "checkpoints/step-00000008/precious"])
def test_what_others_wrote_stays(name, pipeline, tmp_path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"mine": 1}')
    for write in (
        lambda: pipeline.save(tmp_path),
        lambda: diffkit.build(SPEC).train(out=tmp_path, resume=True, progress=False),
        lambda: diffkit.build(SPEC).train(out=tmp_path, progress=False),
    ):
        with pytest.raises(diffkit.CheckpointError):
            write()
    assert path.read_text() == '{"mine": 1}'


def test_a_link_that_leads_nowhere_is_one_error(run) -> None:
    (checkpoint,) = run_directory.checkpoints(run)
    moved = checkpoint.rename(run / "moved")
    checkpoint.symlink_to(run / "none")
    with pytest.raises(diffkit.CheckpointError):
        diffkit.load(run)
    checkpoint.unlink()
    checkpoint.symlink_to(moved)
    diffkit.load(run)


def test_a_pipe_in_place_of_a_file_does_not_block(run) -> None:
    for name in ("metrics.jsonl", "checkpoints/step-00000002/trainer.json"):
        (run / name).unlink()
        os.mkfifo(run / name)
        with pytest.raises(diffkit.CheckpointError, match="no regular file"):
            diffkit.build(SPEC).train(out=run, resume=True, steps=4, progress=False)


def test_what_is_refused_changes_nothing_in_memory(run) -> None:
    pipeline = diffkit.build({**SPEC, "seed": 3})
    before = pipeline.spec
    with pytest.raises(diffkit.CheckpointError):
        pipeline.train(out=run, resume=True, steps=99, learning_rate=0.5, progress=False)
    assert pipeline.spec == before


MEDDLING = {
    "train": lambda pipeline: pipeline.train(steps=1),
    "to": lambda pipeline: pipeline.to("cpu"),
    "restore": lambda pipeline: pipeline.restore("no such"),
    "update_average": lambda pipeline: pipeline.update_average(),
    "take_average": lambda pipeline: pipeline.take_average("mine", {}),
}


@pytest.mark.parametrize("what", MEDDLING)
def test_an_observer_only_looks_on(what) -> None:
    alone, pipeline = diffkit.build(SPEC).train(progress=False), diffkit.build(SPEC)
    said = []

    class Meddles:
        @diffkit.hookimpl
        def diffkit_run_start(self) -> None:
            with pytest.raises(diffkit.SpecError, match="is being trained") as caught:
                MEDDLING[what](pipeline)
            said.append(caught)

    pipeline.train(observers=[Meddles()], progress=False)
    assert said
    pairs = zip(alone.system.parameters(), pipeline.system.parameters(), strict=True)
    assert all(bool((one == other).all()) for one, other in pairs)
