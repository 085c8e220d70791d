"""Training that begins with the weights of another run."""

from __future__ import annotations

import logging

import pytest
import torch

import diffkit
from diffkit.core.weights import state_of

MLP = {"id": "mlp", "config": {"width": 8, "depth": 1}}
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": MLP,
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 2,
    "training": {"batch_size": 8, "steps": 3, "warmup_steps": 0},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("initial") / "run"
    return diffkit.build(SPEC, device="cpu").train(out=directory, progress=False), directory


def built(directory, **changes):
    training = {**SPEC["training"], "steps": 0, "init": str(directory)}
    return diffkit.build({**SPEC, "seed": 5, "training": training, **changes}, device="cpu")


def test_all_are_taken_of_the_average(run, tmp_path) -> None:
    trained, directory = run
    pipeline = built(directory).train(out=tmp_path / "new", progress=False)
    wanted = state_of(trained.average)
    for system in (pipeline.system, pipeline.average):
        assert all(torch.equal(value, wanted[name]) for name, value in state_of(system).items())
    # What was trained is not begun again, neither resumed nor loaded.
    again = diffkit.load(tmp_path / "new", device="cpu")
    again.train(out=tmp_path / "new", resume=True, steps=2, progress=False)
    moved = state_of(again.system)
    assert again.train(steps=0, progress=False)
    assert all(torch.equal(value, moved[name]) for name, value in state_of(again.system).items())


def test_those_that_fit_are_taken_and_the_rest_is_listed(run, caplog) -> None:
    trained, directory = run
    pipeline = built(directory, model={"id": "mlp", "config": {"width": 8, "depth": 2}})
    before = {name: value.clone() for name, value in state_of(pipeline.system).items()}
    with caplog.at_level(logging.INFO, logger="diffkit"):
        pipeline.train(progress=False)
    wanted, after = state_of(trained.average), state_of(pipeline.system)
    shared = [name for name in after if name in wanted and wanted[name].shape == after[name].shape]
    assert shared
    assert all(torch.equal(after[name], wanted[name]) for name in shared)
    others = after.keys() - shared
    assert others
    assert all(torch.equal(after[name], before[name]) for name in others)
    assert all(f"{name} (not there)" in caplog.text for name in others if name not in wanted)


def test_where_nothing_fits_nothing_is_done(run, tmp_path) -> None:
    _, directory = run
    unet = {"width": 4, "multipliers": [1], "blocks": 1, "attention": [], "groups": 2}
    pipeline = built(directory, model={"id": "unet", "config": unet})
    with pytest.raises(diffkit.CheckpointError, match=r"training.init: .* has no weight"):
        pipeline.train(out=tmp_path / "new", progress=False)
    assert not (tmp_path / "new" / "spec.json").exists()
    with pytest.raises(diffkit.CheckpointError, match="there is no such run directory"):
        built(tmp_path / "none").train(progress=False)
