"""Samples that are not finite are never written without a word."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import diffkit
from diffkit.core.sampler import State, StepSampler
from diffkit.helpers.finite import Finite, NotFiniteWarning

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "steps": 3,
    "data": {"shape": [1, 4, 4], "range": [-1, 1]},
}
PLUGIN = """
import torch
from diffkit.core.sampler import State, StepSampler
class Second(StepSampler):
    \"\"\"Spoils the second sample of a batch.\"\"\"
    def step(self, denoiser, x_t, t, s, noise):
        x = denoiser(x_t, t).x_0.clone()
        x[1] = float("nan")
        return State(x, s)
"""


class Second(StepSampler):
    def step(self, denoiser, x_t, t, s, noise):
        x = denoiser(x_t, t).x_0.clone()
        x[1, 0, 0, 0] = float("inf")
        return State(x, s)


@pytest.fixture
def run(tmp_path):
    return diffkit.build(SPEC, device="cpu").save(tmp_path / "run")


@pytest.fixture
def sample(run, tmp_path, invoke):
    plugin = tmp_path / "spoils.py"
    plugin.write_text(PLUGIN)
    words = ("--num", 3, "--sampler", "local.second", "--plugin-file", plugin)
    return lambda out, *more: invoke("sample", run, *words, "--out", out, *more)


def test_an_array_holds_them_and_the_exit_code_says_so(sample, tmp_path):
    done = sample(tmp_path / "a.npz")
    assert done.exit_code == 1
    assert "1 of 3 samples are not finite (NaN or infinite): number 1." in done.output
    assert "Likely causes: weights that are not finite" in done.output
    assert "a.npz has them" in done.output
    assert "Warning" not in done.output
    with np.load(tmp_path / "a.npz") as found:
        assert np.isfinite(found["samples"]).all(axis=(1, 2, 3)).tolist() == [True, False, True]


def test_a_folder_has_the_others(sample, tmp_path):
    done = sample(f"{tmp_path}/pictures/", "--batch-size", 3)
    assert done.exit_code == 1
    assert "number 1." in done.output
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["000000.png", "000002.png"]


@pytest.mark.parametrize("ending", [".png", ".gif"])
def test_a_sheet_leaves_their_places_empty(sample, tmp_path, ending):
    out = tmp_path / f"a{ending}"
    done = sample(out)
    assert done.exit_code == 1
    assert "leaves their places empty" in done.output
    with Image.open(out) as sheet:
        sheet.seek(getattr(sheet, "n_frames", 1) - 1)
        pixels = np.asarray(sheet.convert("L"))
    half = pixels.shape[1] // 2
    assert (pixels[:half, half:] == 255).all()
    assert (pixels[:half, :half] < 255).any()


def test_python_is_warned_once_with_all_numbers():
    pipeline = diffkit.build({**SPEC, "sampler": Second()}, device="cpu")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        x = pipeline.sample(6, batch_size=2, progress=False)
    (warning,) = [w for w in said if issubclass(w.category, NotFiniteWarning)]
    assert "3 of 6 samples" in str(warning.message)
    assert "number 1, 3, 5." in str(warning.message)
    assert not x[1].isfinite().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline.sample(2, sampler="ddpm", progress=False)


def test_of_many_the_first_are_named():
    finite = Finite()
    finite.look(range(100, 130), torch.full((30, 2), float("nan")))
    assert "30 of 30" in finite.said()
    assert "100, 101, 102, 103, 104, 105, 106, 107, 108, 109 and 20 more" in finite.said()
    assert Finite().said() is None
