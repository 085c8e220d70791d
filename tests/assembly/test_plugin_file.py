"""Components from a file that the user names."""

from __future__ import annotations

import hashlib

import pytest

import diffkit

SOURCE = """
from diffkit.core.sampler import State, StepSampler


class MeanOnly(StepSampler):
    def __init__(self, *, gain: float = 1.0) -> None:
        self.gain = gain

    def step(self, denoiser, x_t, t, s, noise):
        return State(self.gain * x_t, s)
"""

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": {"id": "local.mean_only", "config": {"gain": 0.5}},
    "data": {"shape": [2]},
    "steps": 3,
}


def test_a_run_with_a_plugin_file_saves_its_hash_and_loads_with_it(tmp_path, recwarn) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    pipeline = diffkit.build(SPEC, host=diffkit.Host(plugin_files=[file]))
    pipeline.save(tmp_path / "run")
    saved = pipeline.spec.provenance["local.mean_only"]
    assert saved.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()

    with pytest.raises(diffkit.SpecError, match=r"the file mine\.py: name it as a plugin file"):
        diffkit.load(tmp_path / "run")
    diffkit.load(tmp_path / "run", host=diffkit.Host(plugin_files=[file]))
    assert not [w for w in recwarn if "has changed" in str(w.message)]

    file.write_text(SOURCE + "# changed\n")
    with pytest.warns(UserWarning, match="has changed since"):
        diffkit.load(tmp_path / "run", host=diffkit.Host(plugin_files=[file]))
