"""From a spec to a run to samples, by commands."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffkit.cli.settings import with_settings
from diffkit.errors import SpecError
from diffkit.pipeline import Pipeline


def test_train_says_how_to_go_on(invoke, spec_file, tmp_path):
    run = tmp_path / "run"
    result = invoke("train", spec_file, "--out", run, "--set", "training.steps=2")
    assert result.exit_code == 0, result.output
    assert f"diffkit sample {run}" in result.output
    assert "--set training.steps=2 --resume" in result.output
    more = invoke("train", spec_file, "--out", run, "--resume")
    assert more.exit_code == 0, more.output
    assert (run / "checkpoints" / "step-00000004").is_dir()


def test_interrupted(invoke, spec_file, tmp_path, monkeypatch):
    def train(self, *, out, resume, checkpoint):
        (Path(out) / "checkpoints" / "step-00000002").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "train", train)
    result = invoke("train", spec_file, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert "--resume" in result.stderr
    assert "step-00000002" in result.stderr


@pytest.mark.parametrize("ending", [".png", ".gif", ".npz"])
def test_sample(invoke, tiny_run, tmp_path, ending):
    out = tmp_path / f"samples{ending}"
    result = invoke("sample", tiny_run, "--num", 3, "--out", out, "--steps", 6)
    assert result.exit_code == 0, result.output
    if ending == ".npz":
        assert np.load(out)["samples"].shape == (3, 1, 8, 8)
    elif ending == ".gif":
        assert Image.open(out).n_frames > 1
    else:
        assert Image.open(out).format == "PNG"


def test_sample_with_other_components(invoke, tiny_run, tmp_path):
    arrays = []
    for number, sampler in enumerate(["ddpm", "{id: ddpm, config: {variance: fixed_large}}"]):
        out = tmp_path / f"{number}.npz"
        words = ["--sampler", sampler, "--spacing", "leading", "--batch-size", "2"]
        result = invoke(
            "sample", tiny_run, "--num", 3, "--out", out, "--steps", 5, "--seed", 1, *words,
            "--schedule", "{id: cosine, config: {steps: 20}}", "--process", "variance-preserving",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        arrays.append(np.load(out)["samples"])
    assert not np.allclose(*arrays)


def test_eval(invoke, tiny_run):
    result = invoke("eval", tiny_run, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert "frechet_ratio" in result.output
    written = json.loads((tiny_run / "eval.json").read_text())
    assert written["seed"] == 3
    assert written["frechet_ratio"] > 0


def test_eval_on_other_data(invoke, tiny_run, tmp_path):
    np.savez(tmp_path / "held out.npz", images=np.zeros((20, 8, 8), np.uint8))
    data = f"{{id: npz, config: {{path: '{tmp_path / 'held out.npz'}'}}}}"
    metric = "{id: bits-per-dim, config: {draws: 2}}"
    result = invoke("eval", tiny_run, "--metric", metric, "--dataset", data)
    assert result.exit_code == 0, result.output
    written = json.loads((tiny_run / "eval.json").read_text())
    assert written["dataset"]["config"]["path"].endswith("held out.npz")
    assert written["bits_per_dim"] > 0


def test_settings():
    raw = {"loss": "simple", "sampler": {"id": "x", "config": {"a": 1}}, "model": {"id": "unet"}}
    changed = with_settings(
        raw,
        [
            "loss.weighting=snr",
            "loss.weighting.gamma=5e-1",
            "loss.config.other=[1, 2]",
            "loss.other.1=7",
            "sampler=ddpm",
            "model.width=64",
            "times.power=2",
            "training.steps=2000",
            "training.max_seconds=null",
            "data.range=[-1, 1]",
            "seed=4",
        ],
    )
    weighting = {"id": "snr", "config": {"gamma": 0.5}}
    assert changed["loss"] == {"id": "simple", "config": {"weighting": weighting, "other": [1, 7]}}
    assert changed["sampler"] == "ddpm"
    assert changed["model"] == {"id": "unet", "config": {"width": 64}}
    assert changed["times"] == {"id": "diffkit.uniform", "config": {"power": 2}}
    assert changed["training"] == {"steps": 2000, "max_seconds": None}
    assert (changed["data"], changed["seed"]) == ({"range": [-1, 1]}, 4)
    assert raw["loss"] == "simple"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainig.steps=3", "did you mean 'training'"),
        ("training.step=3", "did you mean 'steps'"),
        ("training.steps.more=3", "one value"),
        ("seed.more=3", "one value"),
        ("schedule.steps=3", "names no schedule"),
        ("model.width", "dotted path"),
        ("model..width=3", "dotted path"),
        ("model.width=[", "cannot be parsed"),
        ("model.width.more=3", "not a component"),
        ("provenance.x=3", "no key 'provenance'"),
    ],
)
def test_settings_that_lead_nowhere(setting, message):
    with pytest.raises(SpecError, match=message):
        with_settings({"model": {"id": "unet", "config": {"width": 4}}}, [setting])
