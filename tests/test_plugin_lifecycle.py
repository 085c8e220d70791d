"""A plugin from nothing to gone, in an environment of its own, as the docs tell it."""

from __future__ import annotations

import json

import pytest

from .fresh_environment import ROOT, FreshEnvironment

PYPROJECT = """
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "diffkit-acme"
version = "0.3"

[tool.setuptools]
py-modules = ["diffkit_acme"]

[project.entry-points."diffkit.sampler.v1"]
mean = "diffkit_acme:Mean"
"""

MODULE = '''
from diffkit.core.sampler import State, StepSampler


class Mean(StepSampler):
    """The posterior mean at every step: ancestral sampling without its noise."""

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        mean = denoiser.process.posterior(prediction.x_0, x_t, t, s).mean
        return State(mean, s, prediction)
'''

SPEC = """
schedule: {id: cosine, config: {steps: 20}}
process: variance-preserving
model: {id: mlp, config: {width: 16, depth: 1}}
loss: simple
sampler: acme.mean
dataset: {id: npz, config: {path: points.npz, images: points}}
steps: 4
training: {steps: 4, batch_size: 8}
"""


@pytest.mark.slow
def test_a_plugin_is_installed_used_saved_and_missed(tmp_path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(PYPROJECT)
    (package / "diffkit_acme.py").write_text(MODULE)
    (tmp_path / "spec.yaml").write_text(SPEC)
    call = FreshEnvironment(tmp_path)
    call.install(ROOT, package)
    listed = json.loads(call("diffkit", "list", "--json").stdout)
    assert "acme.mean" in json.dumps(listed)
    make = "import numpy as n; n.savez('points.npz', points=n.random.randn(50, 2).astype('f4'))"
    call("python", "-c", make)
    call("diffkit", "train", "spec.yaml", "--out", "run")
    call("diffkit", "sample", "run", "--num", "3", "--out", "a.npz")
    assert (tmp_path / "a.npz").exists()

    call("pip", "uninstall", "-q", "-y", "diffkit-acme")
    missing = call("diffkit", "sample", "run", "--num", "3", "--out", "b.npz", code=2)
    assert "acme.mean" in missing.stderr
    assert "pip install 'diffkit-acme==0.3'" in missing.stderr
    assert "Traceback" not in missing.stderr
    other = ("--sampler", "ddpm")
    still = call("diffkit", "sample", "run", "--num", "3", "--out", "b.npz", *other, code=2)
    assert "diffkit-acme" in still.stderr
