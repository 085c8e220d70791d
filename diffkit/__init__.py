"""Diffusion models from swappable parts.

Importing this package costs nothing: every name is loaded when it is first used.
"""

from __future__ import annotations

import gc
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffkit.api import build, load, sample
    from diffkit.bundled.models.wrapped import wrap
    from diffkit.config.spec import PipelineSpec
    from diffkit.core.text import as_text
    from diffkit.errors import (
        CheckpointError,
        ComponentError,
        DataError,
        DiffkitError,
        SpecError,
        TrainingError,
        TrainingInterrupted,
    )
    from diffkit.pipeline import Pipeline
    from diffkit.plugins.default import components, resolve
    from diffkit.plugins.hookspecs import hookimpl
    from diffkit.plugins.host import Host
    from diffkit.post_hoc import post_hoc

__version__ = "0.1.0"

_HOMES = {
    "CheckpointError": "diffkit.errors",
    "ComponentError": "diffkit.errors",
    "DataError": "diffkit.errors",
    "DiffkitError": "diffkit.errors",
    "Host": "diffkit.plugins.host",
    "Pipeline": "diffkit.pipeline",
    "PipelineSpec": "diffkit.config.spec",
    "SpecError": "diffkit.errors",
    "TrainingError": "diffkit.errors",
    "TrainingInterrupted": "diffkit.errors",
    "as_text": "diffkit.core.text",
    "build": "diffkit.api",
    "components": "diffkit.plugins.default",
    "hookimpl": "diffkit.plugins.hookspecs",
    "load": "diffkit.api",
    "post_hoc": "diffkit.post_hoc",
    "resolve": "diffkit.plugins.default",
    "sample": "diffkit.api",
    "wrap": "diffkit.bundled.models.wrapped",
}

__all__ = [
    "CheckpointError",
    "ComponentError",
    "DataError",
    "DiffkitError",
    "Host",
    "Pipeline",
    "PipelineSpec",
    "SpecError",
    "TrainingError",
    "TrainingInterrupted",
    "as_text",
    "build",
    "components",
    "hookimpl",
    "load",
    "post_hoc",
    "resolve",
    "sample",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffkit' has no attribute '{name}'")
    from diffkit.plugins.metadata import unreadable_left_out

    # Modules being read make no garbage, and searching what torch holds takes a third of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        # torch reads everybody's metadata as it is imported.
        with unreadable_left_out():
            value = getattr(importlib.import_module(_HOMES[name]), name)
    finally:
        if collecting:
            gc.enable()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
