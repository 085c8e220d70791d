"""A save is all or nothing: what is loaded afterwards is the old one or the new one."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

import diffkit
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.helpers import files
from diffkit.helpers.lock import sole_writer
from diffkit.storage import run_directory

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
    "steps": 3,
}


class Points(Dataset):
    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def __len__(self) -> int:
        return 16

    def batch(self, indices) -> Batch:
        return Batch(torch.linspace(-1, 1, 32).reshape(16, 2)[list(indices)])


@pytest.fixture
def pair() -> list[diffkit.Pipeline]:
    """Two pipelines with weights of the same shapes, which mean something else."""
    made = [
        diffkit.build({**SPEC, "seed": seed, "parameterization": target}, device="cpu")
        for seed, target in enumerate(("epsilon", "velocity"))
    ]
    for pipeline in made:
        for weight in pipeline.system.parameters():
            torch.nn.init.normal_(weight, std=0.1)
    return made


def samples(pipeline: diffkit.Pipeline) -> torch.Tensor:
    return pipeline.sample(3, progress=False)


def saved_and_killed(pipeline: diffkit.Pipeline, run: Path, kill) -> None:
    """Save in a process of its own, in which `kill` arranges its end."""
    child = os.fork()
    if child == 0:
        try:
            kill()
            pipeline.save(run)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


OPERATIONS = ("mkdir", "open", "replace", "rename", "rmdir", "unlink", "fsync")


def end_at(number: int):
    """End the process, as a kill does, before its `number`-th operation on files."""
    count = [0]

    def wrapped(real):
        def operation(*args, **kwargs):
            count[0] += 1
            if count[0] == number:
                os._exit(9)
            return real(*args, **kwargs)

        return operation

    for name in OPERATIONS:
        setattr(os, name, wrapped(getattr(os, name)))


@pytest.mark.filterwarnings("ignore:.*differ in")
def test_killed_before_each_operation_on_files(pair, tmp_path) -> None:
    old, new = pair
    expected = [samples(p) for p in pair]
    seen = set()
    for number in range(1, 200):
        run = old.save(tmp_path / str(number))
        saved_and_killed(new, run, lambda n=number: end_at(n))
        found = samples(diffkit.load(run, device="cpu"))
        which = [torch.equal(found, x) for x in expected]
        assert any(which), f"a kill before operation {number} leaves what was never saved"
        seen.add(which.index(True))
        if which[1] and not list(run.rglob("*.tmp")) and len(list(run.rglob("step-*"))) == 1:
            break
    else:
        pytest.fail("the save never got to its end")
    assert seen == {0, 1}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*differ in")
def test_killed_three_hundred_times(pair, tmp_path) -> None:
    expected = [samples(p) for p in pair]
    run, dice = pair[0].save(tmp_path / "run"), random.Random(0)
    began = time.perf_counter()
    pair[0].save(run)
    lasts = time.perf_counter() - began
    seen = [0, 0]
    for kill in range(300):
        child = os.fork()
        if child == 0:
            failed = 1
            try:
                torch.set_num_threads(1)  # the parent's pool of threads does not outlive a fork
                pair[1 - kill % 2].save(run)
                failed = 0
            finally:
                os._exit(failed)
        time.sleep(dice.uniform(0.0, 5 * lasts))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] in (0, signal.SIGKILL), f"save {kill} failed"
        found = samples(diffkit.load(run, device="cpu"))
        which = [torch.equal(found, x) for x in expected]
        assert any(which), f"kill {kill} leaves what was never saved"
        seen[which.index(True)] += 1
    assert min(seen) > 0, seen


def test_a_reader_never_meets_half_of_a_change(pair, tmp_path, monkeypatch) -> None:
    """Another save comes in between the reading of the spec and of the weights."""
    old, new = pair
    run = old.save(tmp_path / "run")
    real, raced = diffkit.Pipeline.restore, []

    def restore(self, *args, **kwargs):
        if not raced:
            raced.append(new.save(run))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(diffkit.Pipeline, "restore", restore)
    assert torch.equal(samples(diffkit.load(run, device="cpu")), samples(new))
    assert raced


def test_saves_of_other_updates_stay(pair, tmp_path) -> None:
    pipeline, run = pair[0], tmp_path / "run"
    for step in (2, 4, 6, 8, 10):
        pipeline._weights.steps = step
        pipeline.save(run)
    assert [run_directory.step_of(path) for path in run_directory.checkpoints(run)] == [
        2,
        4,
        6,
        8,
        10,
    ]
    pipeline.save(run)
    assert len(list((run / "checkpoints").iterdir())) == 5


def test_each_save_keeps_its_own_spec(pair, tmp_path) -> None:
    run = tmp_path / "run"
    for step, pipeline in enumerate(pair):
        pipeline._weights.steps = step
        pipeline.save(run)
    for step, pipeline in enumerate(pair):
        assert torch.equal(samples(diffkit.load(run, checkpoint=step)), samples(pipeline))


def test_a_save_asks_for_the_lock(pair, tmp_path) -> None:
    with (
        sole_writer(tmp_path / "run"),
        pytest.raises(diffkit.CheckpointError, match="is being written"),
    ):
        pair[0].save(tmp_path / "run")
    assert not run_directory.checkpoints(tmp_path / "run")


def test_what_lies_at_the_top_and_differs_is_told(pair, tmp_path) -> None:
    run = pair[0].save(tmp_path / "run")
    files.write_json(run / "spec.json", pair[1].spec.model_dump(mode="json"))
    with pytest.warns(UserWarning, match=r"differ in parameterization, seed; the weights' own"):
        found = diffkit.load(run, device="cpu")
    assert torch.equal(samples(found), samples(pair[0]))


def test_weights_that_are_not_finite_are_loaded_on_purpose_only(pair, tmp_path) -> None:
    with torch.no_grad():
        next(pair[0].system.parameters()).fill_(float("nan"))
    run = pair[0].save(tmp_path / "run")
    with pytest.raises(diffkit.CheckpointError, match=r"not finite in .*nonfinite='allow'"):
        diffkit.load(run)
    assert next(diffkit.load(run, nonfinite="allow").system.parameters()).isnan().all()


def test_a_missing_average_is_noticed(tmp_path) -> None:
    pipeline = diffkit.build(SPEC).train(Points(), steps=1, batch_size=4, progress=False)
    run = pipeline.save(tmp_path / "run")
    (run_directory.latest_checkpoint(run) / "ema.safetensors").unlink()
    with pytest.raises(diffkit.CheckpointError, match=r"ema\.safetensors is missing"):
        diffkit.load(run)


def test_steps_beyond_eight_digits_are_checkpoints_too(pair, tmp_path) -> None:
    for step in (99_999_999, 100_000_000):
        pair[0]._weights.steps = step
        pair[0].save(tmp_path)
    assert run_directory.step_of(run_directory.latest_checkpoint(tmp_path)) == 100_000_000
