"""Wheels of the core and of each plugin, together and alone, in an environment of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .fresh_environment import ROOT, FreshEnvironment

PLUGINS = sorted((ROOT / "plugins").iterdir())

ALONE = """
import diffkit, numpy

numpy.savez("points.npz", points=numpy.random.randn(50, 2).astype("f4"))
pipeline = diffkit.build(
    {
        "schedule": "cosine", "process": "variance-preserving", "loss": "simple", "sampler": "ddpm",
        "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
        "dataset": {"id": "npz", "config": {"path": "points.npz", "images": "points"}},
    }
)
pipeline.train(steps=4, batch_size=8, progress=False)
pipeline.save("run")
assert pipeline.sample(3, steps=4, progress=False).isfinite().all()
"""

TOGETHER = """
import diffkit
from diffkit_diffusers import export_pipeline, import_pipeline

pipeline = diffkit.load("run")
for name in ("samplers.unipc", "samplers.ode", "diffusers.scheduler"):
    spacing = "trailing" if name.startswith("diffusers") else "samplers.karras"
    end = pipeline.sample(3, sampler=name, spacing=spacing, steps=4, progress=False)
    assert end.isfinite().all(), name

small = diffkit.build(
    {
        "schedule": "linear", "process": "variance-preserving", "loss": "simple", "sampler": "ddpm",
        "model": {
            "id": "unet",
            "config": {"width": 16, "multipliers": [1, 1], "blocks": 1, "groups": 4},
        },
        "data": {"shape": [1, 8, 8], "range": [-1, 1]},
    }
)
export_pipeline(small, "exported")
again = import_pipeline("exported")
one, other = (p.sample(2, steps=4, progress=False) for p in (small, again))
assert (one - other).abs().max() < 1e-4
"""


@pytest.mark.slow
def test_wheels_are_whole(tmp_path: Path) -> None:
    call = FreshEnvironment(tmp_path)

    def distributions() -> set[str]:
        return {
            entry["distribution"] for entry in json.loads(call("diffkit", "list", "--json").stdout)
        }

    call("pip", "wheel", "-q", "--no-deps", "-w", "wheels", *map(str, (ROOT, *PLUGINS)))
    wheels = {path.name.split("-")[0]: str(path) for path in (tmp_path / "wheels").iterdir()}
    assert set(wheels) == {"diffkit", *(plugin.name.replace("-", "_") for plugin in PLUGINS)}

    call.install(wheels.pop("diffkit"))
    assert distributions() == {"diffkit"}
    call("python", "-c", ALONE)

    wheels["diffkit_samplers"] += "[ode]"
    call.install(*wheels.values())
    assert distributions() == {"diffkit", *(plugin.name for plugin in PLUGINS)}
    call("python", "-c", TOGETHER)
    found = json.loads(call("diffkit", "doctor", "--json").stdout)
    assert {finding["status"] for finding in found["findings"]} == {"ok"}
