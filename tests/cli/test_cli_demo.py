"""The demo leaves everything that it promises."""

import json

import pytest

from diffkit.cli import demo

FILES = ("samples.png", "denoising.png", "loss.png", "eval.json", "spec.json", "metrics.jsonl")


@pytest.fixture
def _small(monkeypatch):
    """The demo's spec with a small network and few samples: the same steps, in seconds."""
    spec = demo.demo_spec()
    spec["model"]["config"] |= {"width": 8, "groups": 4, "multipliers": [1], "attention": []}
    spec |= {
        "steps": 12,
        "metric": {"id": "frechet", "config": {"max_samples": 32}},
        "features": {"id": "classifier", "config": {"steps": 5}},
    }
    monkeypatch.setattr(demo, "demo_spec", lambda: json.loads(json.dumps(spec)))


@pytest.mark.usefixtures("_small")
def test_demo(invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    result = invoke("demo", "--seconds", 2)
    assert result.exit_code == 0, result.output
    assert "frechet_ratio" in result.output
    for name in FILES:
        assert (tmp_path / "runs" / "demo-2" / name).stat().st_size > 0


def test_an_existing_directory(invoke, tmp_path):
    result = invoke("demo", "--out", tmp_path)
    assert result.exit_code == 2
    assert "exists already" in result.stderr


def test_its_spec_is_within_a_minute():
    assert demo.demo_spec()["training"]["max_seconds"] <= 60
