"""A loss that is a module is trained, averaged, saved and resumed with the network."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

import diffkit
from diffkit.storage import run_directory

FILE = Path(__file__).parent / "weighted_loss.py"
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "local.uncertain",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 2,
    "training": {"batch_size": 16, "steps": 6, "log_every": 2, "warmup_steps": 0},
}


def built(**training):
    host = diffkit.Host(plugin_files=[FILE])
    training = {**SPEC["training"], **training}
    return diffkit.build({**SPEC, "training": training}, host=host, device="cpu"), host


def test_its_parameters_train_and_are_saved(tmp_path) -> None:
    pipeline, host = built(learning_rate=0.01)
    pipeline.train(out=tmp_path / "run", progress=False)
    line = pipeline.parts.loss.line.detach()
    assert line.abs().min() > 1e-3
    last = run_directory.latest_checkpoint(tmp_path / "run")
    for name in ("model", "ema"):
        assert "loss.line" in load_file(last / f"{name}.safetensors")
    assert any(name.startswith("loss.line.") for name in load_file(last / "optimizer.safetensors"))
    again = diffkit.load(tmp_path / "run", host=host, device="cpu")
    assert torch.equal(again.parts.loss.line, line)
    metrics = run_directory.read_metrics(tmp_path / "run")
    assert {"loss/error", "loss/u"} <= metrics[-1].keys()


def test_resuming_and_own_loops_have_them_too(tmp_path) -> None:
    once, _ = built(learning_rate=0.01)
    once.train(progress=False)
    first, _ = built(learning_rate=0.01, steps=3)
    first.train(out=tmp_path / "run", progress=False)
    again, _ = built(learning_rate=0.01)
    again.train(out=tmp_path / "run", resume=True, progress=False)
    assert torch.equal(once.parts.loss.line, again.parts.loss.line)
    own, _ = built(learning_rate=0.01)
    held = [weight for group in own.optimizer().param_groups for weight in group["params"]]
    assert any(weight is own.parts.loss.line for weight in held)
