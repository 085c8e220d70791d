"""Every argument of the public functions: what is wrong is named, numbers of NumPy are numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import diffkit
import diffkit_inverse
from diffkit.errors import DiffkitError

SPEC = {
    "schedule": {"id": "diffkit.cosine", "config": {"steps": 8}},
    "process": "diffkit.variance-preserving",
    "model": {"id": "diffkit.mlp", "config": {"width": 8, "depth": 1}},
    "loss": "diffkit.simple",
    "sampler": "diffkit.ddpm",
    "data": {"shape": [1, 8, 8], "range": [-1, 1]},
}
WRONG = ("", "x", None, True, [], object(), torch.zeros(2, 2, dtype=torch.int64))
IMAGE = torch.zeros(1, 1, 8, 8)


@pytest.fixture(scope="module")
def pipeline() -> diffkit.Pipeline:
    return diffkit.build(SPEC)


def _mask() -> torch.Tensor:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1.0
    return mask


CALLS: dict[str, Callable[..., Any]] = {
    "inpaint": lambda p, image=IMAGE, mask=None, **k: diffkit_inverse.inpaint(
        p, image, _mask() if mask is None else mask, **{"method": "replacement", "steps": 2, **k}
    ),
    "upscale": lambda p, small=IMAGE[..., :4, :4], factor=2, **k: diffkit_inverse.upscale(
        p, small, factor=factor, **{"steps": 2, **k}
    ),
    "deblur": lambda p, soft=IMAGE, sigma=1.0, **k: diffkit_inverse.deblur(
        p, soft, sigma=sigma, **{"steps": 2, **k}
    ),
    "edit": lambda p, image=IMAGE, **k: diffkit_inverse.edit(p, image, **{"steps": 2, **k}),
    "interpolate": lambda p, a=IMAGE, b=IMAGE, **k: diffkit_inverse.interpolate(
        p, a, b, **{"steps": 2, "frames": 2, **k}
    ),
}
ARGUMENTS = {
    "inpaint": ("p", "image", "method", "num", "seed", "steps", "batch_size", "precision"),
    "upscale": ("p", "small", "factor", "zeta"),
    "deblur": ("p", "soft", "sigma", "zeta"),
    "edit": ("p", "image", "strength"),
    "interpolate": ("p", "a", "b", "frames", "steps", "condition"),
}
OPTIONAL = {("inpaint", "steps"), ("inpaint", "precision"), ("interpolate", "steps")}


@pytest.mark.parametrize(("name", "argument"), [(n, a) for n, s in ARGUMENTS.items() for a in s])
def test_a_wrong_argument_is_an_error_of_ours(
    pipeline: diffkit.Pipeline, name: str, argument: str
) -> None:
    for value in WRONG:
        if value is None and (name, argument) in {*OPTIONAL, ("interpolate", "condition")}:
            continue
        with pytest.raises(DiffkitError):
            CALLS[name](**{"p": pipeline, argument: value})


@pytest.mark.parametrize("name", CALLS)
def test_numbers_of_numpy_are_numbers(pipeline: diffkit.Pipeline, name: str) -> None:
    given: dict[str, dict[str, Any]] = {
        "inpaint": {"num": np.int64(1), "seed": torch.tensor(0), "batch_size": np.uint8(1)},
        "upscale": {"factor": np.int64(2), "zeta": np.float32(1.0)},
        "deblur": {"sigma": np.float64(1.0), "zeta": torch.tensor(1.0)},
        "edit": {"strength": np.float32(0.5)},
        "interpolate": {"frames": np.int64(2), "steps": np.int32(2)},
    }
    assert CALLS[name](pipeline, **given[name]).shape[1:] == (1, 8, 8)


def test_pictures_are_read_from_paths() -> None:
    for value in (None, 3, "", b"x", "~/there-is-none.png"):
        with pytest.raises(DiffkitError):
            diffkit_inverse.read_image(value, (1, 8, 8), (-1.0, 1.0))  # type: ignore[arg-type]
        with pytest.raises(DiffkitError):
            diffkit_inverse.read_mask(value, (1, 8, 8))  # type: ignore[arg-type]
