"""The bridge between diffkit and diffusers: import, export, U-Nets and schedulers.

Importing this package costs nothing: every name is loaded when it is first used, and diffusers
itself only where it is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffkit_diffusers.exporting import export_pipeline
    from diffkit_diffusers.importing import import_pipeline

__version__ = "0.1.0"

_HOMES = {
    "export_pipeline": "diffkit_diffusers.exporting",
    "import_pipeline": "diffkit_diffusers.importing",
}

__all__ = ["export_pipeline", "import_pipeline"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffkit_diffusers' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
