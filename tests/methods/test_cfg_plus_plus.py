"""docs/examples/cfg_plus_plus.py"""

from __future__ import annotations

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 64, "depth": 3}},
    "loss": "simple",
    "sampler": "local.cfg_plus_plus",
    "encoder": {"id": "guidance.label", "config": {"classes": 8}},
    "guidance": "local.interpolation",
    "data": {"shape": [2]},
}
