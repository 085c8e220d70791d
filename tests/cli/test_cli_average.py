"""Which weights are sampled with and measured, from the command line."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

import diffkit
from diffkit.cli.main import cli

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "steps": 3,
    "dataset": "digits",
    "metric": "bits-per-dim",
    "training": {
        "batch_size": 8,
        "averages": {"slow": "ema", "fast": {"id": "ema", "config": {"decay": 0.05}}},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averages") / "run"
    diffkit.build(SPEC, device="cpu").train(steps=5, out=folder, progress=False)
    return folder


def test_an_average_is_chosen_by_name(run, tmp_path):
    found = {}
    for name in (None, "slow", "fast", "latest"):
        out = tmp_path / f"{name}.npz"
        words = ["sample", str(run), "-n", "2", "--out", str(out)]
        words += [] if name is None else ["--average", name]
        said = CliRunner().invoke(cli, words)
        assert said.exit_code == 0, said.output
        found[name] = np.load(out)["samples"]
    assert np.array_equal(found[None], found["slow"])
    assert not np.array_equal(found["fast"], found["slow"])
    assert not np.array_equal(found["fast"], found["latest"])


def test_one_that_there_is_not_is_told(run, tmp_path):
    said = CliRunner().invoke(cli, ["eval", str(run), "--average", "middle"])
    assert said.exit_code == 2
    assert "slow" in said.output
