"""From a name to samples of one's own plugin, in an environment of its own, with no edit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffkit.cli.new_plugin import EXAMPLES, FURTHER, parts_of

from .fresh_environment import ROOT, FreshEnvironment

# Every kind but the weighting, which a loss would have to take.
SPEC = """
schedule: {id: acme.sigmoid, config: {steps: 100}}
process: acme.rectified-flow
model: {id: acme.residual-mlp, config: {width: 16, depth: 1}}
loss: acme.pseudo-huber
sampler: {id: acme.ddim, config: {eta: 0.5}}
parameterization: acme.flow
times: acme.logit-normal
spacing: acme.power
dataset: {id: acme.checkerboard, config: {size: 200}}
features: acme.projection
metric: acme.moments
steps: 4
training: {steps: 4, batch_size: 8}
"""


@pytest.mark.slow
def test_a_new_plugin_is_written_installed_checked_trained_and_sampled(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    call = FreshEnvironment(tmp_path)
    call.install(ROOT)
    templates = (*EXAMPLES, *FURTHER)
    kinds = [word for template in templates for word in ("--kind", template)]
    parts = [(kind, f"acme.{name}") for t in templates for kind, name, _ in parts_of(t)]
    # From the installed wheel, so that the templates are seen to be in it.
    call("diffkit", "new-plugin", "acme", *kinds)
    call.install("-e", "./diffkit-acme[test]")

    listed = json.loads(call("diffkit", "list", "--json").stdout)
    ids = {(entry["kind"], entry["id"]) for entry in listed}
    assert set(parts) <= ids
    found = json.loads(call("diffkit", "doctor", "--json", "--disable", "diffkit").stdout)
    ours = [f for f in found["findings"] if f["distribution"] == "diffkit-acme"]
    assert len(ours) == len(parts)
    assert {finding["status"] for finding in ours} == {"ok"}

    call("diffkit", "check", "acme.*")
    tested = call("python", "-m", "pytest", "-q", "diffkit-acme")
    assert " passed" in tested.stdout
    assert "failed" not in tested.stdout

    call("diffkit", "train", "spec.yaml", "--out", "run")
    call("diffkit", "sample", "run", "--num", "3", "--out", "samples.npz")
    assert (tmp_path / "samples.npz").exists()
    call("diffkit", "eval", "run")
    assert "mean_distance" in (tmp_path / "run" / "eval.json").read_text()
