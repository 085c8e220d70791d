"""Autoencoders of diffusers."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

import diffkit
from diffkit.errors import ComponentError, SpecError
from diffkit.testing import components_under_test, run_checks
from diffkit.testing.component_under_test import Fixtures
from diffkit_latent.pretrained import DiffusersKL

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = diffusers.AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
            scaling_factor=0.5,
            shift_factor=0.1,
        )
    network.save_pretrained(folder, safe_serialization=True)
    return folder


def test_data_in_another_range_are_refused(folder) -> None:
    spec = {
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": "mlp",
        "loss": "simple",
        "sampler": "ddpm",
        "autoencoder": {"id": "diffusers-kl", "config": {"folder": str(folder)}},
        "data": {"shape": [3, 8, 8], "range": [0.0, 1.0]},
    }
    with pytest.raises(SpecError, match=r"takes images in \[-1, 1\]"):
        diffkit.build(spec, device="cpu")
    diffkit.build({**spec, "data": {"shape": [3, 8, 8], "range": [-1.0, 1.0]}}, device="cpu")


def test_latents_are_those_that_pipelines_of_diffusers_take(folder) -> None:
    ours = DiffusersKL(folder=str(folder)).eval()
    theirs = diffusers.AutoencoderKL.from_pretrained(folder).eval()
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        z = (theirs.encode(x).latent_dist.mode() - 0.1) * 0.5
        torch.testing.assert_close(ours.encode(x), z)
        torch.testing.assert_close(ours.decode(z), theirs.decode(z / 0.5 + 0.1).sample)


def test_it_keeps_the_laws_of_its_kind(folder) -> None:
    config = {"latent.diffusers-kl": [{"folder": str(folder)}]}
    fixtures = {"latent.diffusers-kl": Fixtures((3, 16, 16))}
    outcomes = list(
        run_checks(
            components_under_test("latent.diffusers-kl", configurations=config, fixtures=fixtures)
        )
    )
    assert not [o.message for o in outcomes if o.status == "failed"]


def test_shapes_are_known_from_the_configuration(folder) -> None:
    config = SimpleNamespace(folder=str(folder))
    assert DiffusersKL.latent_shape(config, (3, 16, 8)) == (4, 8, 4)
    with pytest.raises(ComponentError, match="3 channels"):
        DiffusersKL.latent_shape(config, (1, 16, 16))
    with pytest.raises(ComponentError, match="2 does not divide"):
        DiffusersKL.latent_shape(config, (3, 15, 16))


def test_folders_that_hold_something_else_are_named(folder, tmp_path) -> None:
    with pytest.raises(ComponentError, match="cannot be read"):
        DiffusersKL(folder=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(ComponentError, match="UNet2DModel"):
        DiffusersKL(folder=str(tmp_path))
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ComponentError, match="diffusers-kl"):
        DiffusersKL(folder=str(tmp_path))
    # A pickle is not read, even where it is all that there is.
    torch.save({}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(ComponentError, match="diffusers-kl"):
        DiffusersKL(folder=str(tmp_path))


def _rewritten(folder, change) -> None:
    path = folder / "diffusion_pytorch_model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    save_file(change(tensors), path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "decoder.conv_in.bias"}, "lacks decoder"),
        (lambda t: {**t, "more": torch.zeros(1)}, "has besides more"),
        (lambda t: {**t, "decoder.conv_in.bias": t["decoder.conv_in.bias"] / 0}, "not finite in"),
        (lambda t: {**t, "decoder.conv_in.bias": torch.zeros(3)}, "decoder"),
    ],
)
def test_weights_that_are_not_the_configurations_are_refused(folder, change, words, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "vae")
    _rewritten(copied, change)
    with pytest.raises(ComponentError, match=words):
        DiffusersKL(folder=str(copied))
