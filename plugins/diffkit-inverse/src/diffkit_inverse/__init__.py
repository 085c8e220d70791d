"""Inpainting, super-resolution, deblurring, editing and interpolation with any trained run.

The samplers are found by their entry points. These functions take a pipeline, and import torch
when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffkit_inverse.applications import deblur, edit, inpaint, interpolate, upscale
    from diffkit_inverse.images import read_image, read_mask
    from diffkit_inverse.inversion import follow, invert, slerp

_HOMES = {
    "deblur": "applications",
    "edit": "applications",
    "follow": "inversion",
    "inpaint": "applications",
    "interpolate": "applications",
    "invert": "inversion",
    "read_image": "images",
    "read_mask": "images",
    "slerp": "inversion",
    "upscale": "applications",
}

__all__ = [
    "deblur",
    "edit",
    "follow",
    "inpaint",
    "interpolate",
    "invert",
    "read_image",
    "read_mask",
    "slerp",
    "upscale",
]


def __getattr__(name: str) -> Any:
    """Import the function's module at its first use: `--help` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'diffkit_inverse' has no attribute '{name}'")
    return getattr(importlib.import_module(f"diffkit_inverse.{_HOMES[name]}"), name)
