"""A tiny spec and a run that was trained on it."""

import json

import pytest
from click.testing import CliRunner

from diffkit.cli.main import cli

TINY = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {
        "id": "unet",
        "config": {"width": 8, "multipliers": [1], "blocks": 1, "groups": 4, "attention": []},
    },
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "features": {"id": "classifier", "config": {"steps": 5}},
    "metric": {"id": "frechet", "config": {"max_samples": 32}},
    "training": {"steps": 4, "batch_size": 8, "log_every": 2, "checkpoint_every": 2},
}


@pytest.fixture
def invoke():
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def spec_file(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.json").write_text(json.dumps(TINY))
    words = ["train", str(folder / "tiny.json"), "--out", str(folder / "run")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    return folder / "run"
