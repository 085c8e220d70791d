"""docs/examples/representation_alignment.py"""

from __future__ import annotations

import json

import torch

import diffkit

from .common import QUICK, host_of, report

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "local.featured", "config": {"width": 32}},
    "loss": {"id": "local.repa", "config": {"width": 32}},
    "sampler": "ddpm",
    "dataset": "digits",
}
SETTINGS = {**QUICK, "batch_size": 64, "log_every": 10, "checkpoint_every": 20}


def test_features_are_aligned_and_the_projector_is_trained_saved_and_resumed(tmp_path):
    host = host_of("representation_alignment")
    pipeline = diffkit.build(SPEC, host=host)
    before = pipeline.system.loss.project[0].weight.clone()
    pipeline.train(out=tmp_path / "whole", steps=80, **SETTINGS)
    lines = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").open()]
    apart = [line["loss/apart"] for line in lines]
    report("REPA", f"1 - cosine of the features {apart[0]:.3f}, after 80 updates {apart[-1]:.3f}")
    assert apart[-1] < 0.5 * apart[0]
    assert not torch.equal(before, pipeline.system.loss.project[0].weight)

    halves = diffkit.build(SPEC, host=host)
    halves.train(out=tmp_path / "halves", steps=40, **SETTINGS)
    again = diffkit.load(tmp_path / "halves", host=host)
    again.train(out=tmp_path / "halves", resume=True, steps=80, **SETTINGS)
    whole = pipeline.system.state_dict()
    assert any(name.startswith("loss.project") for name in whole)
    assert not any("fixed" in name for name in whole)
    assert all(torch.equal(value, whole[name]) for name, value in again.system.state_dict().items())
