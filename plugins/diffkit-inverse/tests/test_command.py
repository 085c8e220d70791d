"""`diffkit edit` and the functions behind it, with a run that has learned nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import diffkit
import diffkit_inverse as inverse
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.encoder import Encoder
from diffkit.errors import ComponentError, DataError, DiffkitError, SpecError
from diffkit_inverse.cli import command

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [1, 8, 8], "range": [-1, 1]},
}


@pytest.fixture(scope="module")
def pipeline():
    return diffkit.build(SPEC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pipeline):
    folder = tmp_path_factory.mktemp("run")
    pipeline.save(folder / "run")
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(ramp).save(folder / "a.png")
    Image.fromarray(ramp.T.copy()).save(folder / "b.png")
    Image.fromarray(ramp[:4, :4].copy()).save(folder / "small.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[4:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.zeros_like(mask)).save(folder / "black.png")
    (folder / "text.png").write_text("no picture")
    return folder


def call(folder, line, out="out.npz"):
    words = [str(folder / word) if word.endswith(".png") else word for word in line.split()]
    arguments = [str(folder / "run"), *words, "--out", str(folder / out)]
    return CliRunner().invoke(command, arguments)


def array(folder, name="out.npz"):
    return torch.from_numpy(np.load(folder / name)["samples"])


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("--inpaint a.png --mask mask.png --num 3 --steps 12", 3),
        ("--inpaint a.png --mask mask.png --method replacement --steps 5", 1),
        ("--inpaint a.png --mask mask.png --method dps --steps 5 --batch-size 1 --num 2", 2),
        ("--upscale small.png --factor 2 --steps 5 --zeta 0.3", 1),
        ("--deblur a.png --blur 0.7 --steps 5 --seed 4", 1),
        ("--edit a.png --strength 0.3 --steps 5 --precision float32", 1),
        ("--interpolate a.png b.png --frames 4 --steps 5", 4),
        ("--upscale a.png --factor 2 --steps 5 --resize", 1),
    ],
)
def test_every_task_answers(folder, line, count):
    result = call(folder, line)
    assert result.exit_code == 0, result.output
    assert f"{count} images are in" in result.output
    found = array(folder)
    assert found.shape == (count, 1, 8, 8)
    assert found.isfinite().all()


@pytest.mark.parametrize("method", ["repaint", "replacement", "dps"])
def test_what_is_not_masked_is_exactly_as_given(pipeline, folder, method):
    image = inverse.read_image(folder / "a.png", (1, 8, 8), (-1.0, 1.0))
    mask = inverse.read_mask(folder / "mask.png", (1, 8, 8))
    found = inverse.inpaint(pipeline, image, mask, method=method, num=2, steps=12)
    assert torch.equal(found[..., :4, :], image[..., :4, :].expand(2, 1, 4, 8))
    assert not torch.equal(found[0, ..., 4:, :], found[1, ..., 4:, :])


def test_a_picture_is_in_the_range_of_the_data(folder):
    image = inverse.read_image(folder / "a.png", (3, 8, 8), (-1.0, 3.0))
    assert image.shape == (1, 3, 8, 8)
    assert image.min() == -1.0
    assert image.max() == pytest.approx(-1.0 + 4.0 * 252 / 255)


def test_the_command_and_the_function_agree_whatever_the_batch(pipeline, folder):
    call(folder, "--edit a.png --steps 6 --num 3 --seed 2 --batch-size 2")
    image = inverse.read_image(folder / "a.png", (1, 8, 8), (-1.0, 1.0))
    found = inverse.edit(pipeline, image, num=3, seed=2, steps=6)
    torch.testing.assert_close(found, array(folder), rtol=0, atol=1e-5)


def test_a_png_is_written(folder):
    result = call(folder, "--edit a.png --steps 3", "out.png")
    assert result.exit_code == 0, result.output
    assert Image.open(folder / "out.png").size[0] >= 64


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "give one of --inpaint"),
        ("--inpaint a.png --edit a.png", "given: --inpaint, --edit"),
        ("--inpaint a.png", "--inpaint needs --mask"),
        ("--upscale small.png", "--upscale needs --factor"),
        ("--deblur a.png", "--deblur needs --blur"),
        ("--edit a.png --frames 3", "--frames does not go with --edit"),
        ("--interpolate a.png b.png --seed 1", "--seed does not go with --interpolate"),
        ("--edit a.png --mask mask.png", "--mask does not go with --edit"),
    ],
)
def test_options_that_do_not_go_together_are_refused(folder, line, words):
    result = call(folder, line)
    assert result.exit_code == 2
    assert words in result.output


def test_another_ending_is_refused(folder):
    assert "must end in .png" in call(folder, "--edit a.png", "out.jpg").output


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("--edit small.png", DataError, "4 pixels wide and 4 high, and needs to be 8 wide"),
        ("--edit none.png", DataError, "cannot be read"),
        ("--edit text.png", DataError, "--edit: .*cannot be read as an image"),
        ("--inpaint a.png --mask black.png", DataError, "--mask: .*has nothing white"),
        ("--upscale small.png --factor 3 --resize", SpecError, "factor = 3 does not divide"),
        ("--deblur a.png --blur 3", ComponentError, "sigma = 3 .*at most 2.33"),
        ("--deblur a.png --blur -1", ComponentError, "sigma = -1"),
        ("--edit a.png --strength 0", ComponentError, "strength = 0"),
    ],
)
def test_what_cannot_be_done_is_explained(folder, line, kind, words):
    result = call(folder, line + " --steps 3")
    assert isinstance(result.exception, kind), result.output
    assert isinstance(result.exception, DiffkitError)
    with pytest.raises(kind, match=words):
        raise result.exception


def test_data_without_a_range_have_no_black(folder):
    with pytest.raises(DataError, match="declare no range"):
        inverse.read_image(folder / "a.png", (1, 8, 8), None)


def test_data_that_are_no_images_are_refused(folder):
    with pytest.raises(DataError, match=r"\[2\]"):
        inverse.read_image(folder / "a.png", (2,), (-1.0, 1.0))


def test_interpolation_refuses_other_shapes_and_conditions(pipeline):
    whole, part = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)
    with pytest.raises(SpecError, match="b has the shape"):
        inverse.interpolate(pipeline, whole, part)
    with pytest.raises(SpecError, match="conditions taken are: none; given: label"):
        inverse.interpolate(pipeline, whole, whole, condition={"label": torch.zeros(1)})


class Classes(Encoder):
    """A vector for each of four labels; the last stands for none."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.eye(4))

    @classmethod
    def facts(cls, config):
        return {"takes": ("label",), "vector": 4}

    def prepare(self, condition):
        return dict(condition)

    def null(self, count):
        return {"label": torch.full((count,), 3)}

    def forward(self, prepared):
        return {"vector": self.table[prepared["label"]]}


def test_runs_with_an_encoder_are_asked_as_in_sampling():
    unet = {"width": 8, "multipliers": [1], "blocks": 1, "groups": 4, "attention": []}
    spec = {**SPEC, "model": {"id": "unet", "config": unet}, "encoder": Classes()}
    pipeline = diffkit.build(spec)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pipeline.system.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    a, b = torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.5)
    found = [
        inverse.interpolate(pipeline, a, b, frames=3, steps=5, condition=condition)
        for condition in (None, {"label": 1}, {"label": [2]}, {"label": [3]})
    ]
    assert torch.equal(found[0], found[3])
    assert not torch.allclose(found[1], found[2], atol=1e-4)
    for image in (a, b):
        inverse.edit(pipeline, image, steps=5, condition={"label": [1]})


class Halved(Autoencoder):
    """Every other pixel."""

    @classmethod
    def latent_shape(cls, config, shape):
        return (shape[0], shape[1] // 2, shape[2] // 2)

    def encode(self, x):
        return x[..., ::2, ::2]

    def decode(self, z):
        return z.repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_runs_in_latents_are_refused():
    pipeline = diffkit.build({**SPEC, "autoencoder": Halved()})
    image, mask = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., 0] = 1.0
    for ask in (
        lambda: inverse.edit(pipeline, image),
        lambda: inverse.inpaint(pipeline, image, mask),
        lambda: inverse.interpolate(pipeline, image, image),
        lambda: inverse.upscale(pipeline, image[..., ::2, ::2], factor=2),
    ):
        with pytest.raises(SpecError, match="in the latents of an autoencoder"):
            ask()


def test_an_unknown_method_is_refused(pipeline):
    image, mask = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., 0] = 1.0
    with pytest.raises(SpecError, match="'repaint', 'replacement', 'dps'"):
        inverse.inpaint(pipeline, image, mask, method="magic")
    with pytest.raises(DataError, match="everything white"):
        inverse.inpaint(pipeline, image, torch.ones_like(mask))


def test_clipping_is_the_specs_unless_the_command_says_otherwise(pipeline, folder):
    ends = {}
    for line in ("", "--clip", "--no-clip"):
        done = call(folder, f"--edit a.png --strength 1 --steps 5 {line}")
        assert done.exit_code == 0, done.output
        ends[line] = array(folder)
    assert torch.equal(ends[""], ends["--clip"])
    assert float(ends["--clip"].abs().max()) <= 1.0
    image = inverse.read_image(folder / "a.png", (1, 8, 8), (-1.0, 1.0))
    free = inverse.edit(pipeline, image, strength=1.0, steps=5, clip=False)
    assert torch.equal(ends["--no-clip"], free)
    assert float(free.abs().max()) > 1.0
    done = call(folder, "--interpolate a.png b.png --clip --steps 5")
    assert "--clip does not go with --interpolate" in done.output


@pytest.mark.parametrize("out", ["nan.npz", "nan.png"])
def test_answers_that_are_not_finite_are_said(folder, tmp_path, monkeypatch, out):
    # As after an overflow: weights that are not finite themselves are not even loaded.
    pipeline = diffkit.build(SPEC)
    pipeline.save(tmp_path / "run")
    network = type(pipeline.system.model)
    monkeypatch.setattr(network, "forward", lambda self, x, *_: torch.full_like(x, float("nan")))
    line = ["--edit", str(folder / "a.png"), "--steps", "3", "--num", "2"]
    done = CliRunner().invoke(command, [str(tmp_path / "run"), *line, "--out", str(tmp_path / out)])
    assert done.exit_code == 1
    assert "2 of 2 samples are not finite" in done.output
    assert (tmp_path / out).exists()
