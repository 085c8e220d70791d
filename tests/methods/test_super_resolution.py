"""Super-resolution from the command line alone: trained, sampled, guided, measured."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from diffkit.cli.main import cli

from .common import EXAMPLES, report

pytestmark = pytest.mark.slow

PLUGIN = EXAMPLES / "super_resolution.py"
SPEC = """
dataset: local.low_res_digits
schedule: cosine
process: variance-preserving
model: local.upsampler
parameterization: velocity
loss: simple
sampler: ddpm
metric: local.psnr
steps: 20
training:
  steps: 450
  batch_size: 64
  learning_rate: 2.0e-3
  warmup_steps: 20
  ema_decay: 0.99
  condition_dropout: {low: 0.1}
"""


def diffkit(*words):
    found = CliRunner().invoke(cli, [*map(str, words), "--plugin-file", str(PLUGIN)])
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("super")
    (folder / "spec.yaml").write_text(SPEC)
    diffkit("train", folder / "spec.yaml", "--out", folder / "run")
    return folder / "run"


def test_samples_are_closer_than_interpolation(run):
    """As a metric of pairs finds on digits that were held out; guided, they are close too."""
    held_out = "{id: local.low_res_digits, config: {held_out: true}}"
    found = {}
    for guidance in ((), ("--guidance", "1.5")):
        diffkit("eval", run, "--dataset", held_out, "--num", "96", "--steps", "15", *guidance)
        found[guidance] = json.loads((run / "eval.json").read_text())
    plain = found[()]
    assert plain["steps"] == 15
    report(
        "super-resolution",
        f"PSNR {plain['psnr']:.2f}, {plain['bicubic']:.2f} of bicubic interpolation, "
        f"{plain['nearest']:.2f} of the nearest pixels",
    )
    assert plain["psnr"] > plain["nearest"] + 1.0
    assert plain["psnr"] > plain["bicubic"] + 1.0
    assert found["--guidance", "1.5"]["psnr"] > plain["nearest"]


def test_it_is_sampled_with_pictures_of_data_and_of_files(run, tmp_path):
    few = ("sample", run, "--steps", 5)
    diffkit(*few, "-n", 4, "--like", "data:3,5-7", "--out", tmp_path / "a.npz")
    folder = tmp_path / "low"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(np.full((8, 8), 200 * i, np.uint8)).save(folder / f"{i}.png")
    for given in (folder, folder / "0.png"):
        words = ("--condition", f"low=@{given}", "--out", tmp_path / "b.npz")
        diffkit(*few, "-n", 4, *words)
        assert np.load(tmp_path / "b.npz")["samples"].shape == (4, 1, 8, 8)
    # Left out, it is what stands for none.
    diffkit(*few, "-n", 2, "--out", tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--condition", "low"), "NAME=VALUE"),
        (("--condition", "depth=3"), "the conditions taken are: low"),
        (("--condition", "low=@nowhere.png"), "there is no file"),
        (("--like", "data:9999"), "there is no row 9999"),
        (("--like", "data:5-2"), "numbers and ranges"),
        (("--like", "digits"), "low"),
        (("--input", "image=@x.png"), "there is no file"),
    ],
)
def test_what_is_wrong_is_said(run, tmp_path, words, message):
    every = ["sample", run, "-n", 2, "--out", tmp_path / "a.npz", *words, "--plugin-file", PLUGIN]
    found = CliRunner().invoke(cli, list(map(str, every)))
    assert found.exit_code != 0
    assert message in found.output
