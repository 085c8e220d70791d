"""Samples are written as they come, however many there are."""

from __future__ import annotations

import resource
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import diffkit

_SAMPLE = """
import resource, sys
from diffkit.cli.main import cli
cli.main(["sample", *sys.argv[1:]], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large") / "run"
    return diffkit.build({**SPEC, "data": {"shape": [3, 32, 32], "range": [-1, 1]}}).save(folder)


def test_an_array_is_that_of_python(run, tmp_path, invoke) -> None:
    done = invoke("sample", run, "--num", 5, "--batch-size", 2, "--out", tmp_path / "a.npz")
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "a.npz") as found:
        samples = found["samples"]
    assert samples.dtype == np.float32
    expected = diffkit.load(run, device="cpu").sample(5, batch_size=2)
    assert np.array_equal(samples, expected.numpy())


def test_a_folder_of_pictures(run, tmp_path, invoke) -> None:
    done = invoke("sample", run, "--num", 3, "--steps", 2, "--out", f"{tmp_path}/pictures/")
    assert done.exit_code == 0, done.output
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files == ["000000.png", "000001.png", "000002.png"]
    expected = diffkit.load(run, device="cpu").sample(3, steps=2)[2]
    with Image.open(tmp_path / "pictures" / "000002.png") as picture:
        pixels = np.asarray(picture).astype(float).transpose(2, 0, 1)
    assert np.abs(pixels - (expected.numpy() + 1) * 127.5).max() <= 0.5 + 1e-4


def test_a_full_trajectory_that_fails_leaves_no_file(run, tmp_path, invoke) -> None:
    done = invoke("sample", run, "--num", 3, "--sampler", "nothing", "--out", tmp_path / "a.npz")
    assert done.exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(resource, "RUSAGE_SELF"), reason="needs getrusage")
def test_memory_does_not_depend_on_the_number(run, tmp_path) -> None:
    peaks = []
    for num in (500, 10_000):
        arguments = [str(run), "--num", str(num), "--steps", "1", "--out", str(tmp_path / "a.npz")]
        command = [sys.executable, "-c", _SAMPLE, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    # All of them are 117 MiB; allocators and what is imported late move a few.
    assert peaks[1] - peaks[0] < 20, peaks
