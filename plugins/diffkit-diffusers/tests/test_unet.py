"""A U-Net of diffusers as a diffkit model answers as diffusers does, at index k - 1."""

from __future__ import annotations

import diffkit
import pytest
import torch
from diffkit.errors import CheckpointError, ComponentError, SpecError
from diffusers import UNet2DConditionModel

from diffkit_diffusers.unet import DiffusersUNet

from .small_pipelines import (
    edited,
    noise,
    our_output,
    saved,
    small,
    their_output,
    theirs,
    with_old_names,
)

# What the bundled `unet` cannot express, which is what this component is for.
TUTORIAL = small(norm_eps=1e-5, flip_sin_to_cos=True, freq_shift=0, downsample_padding=1)
TEXT = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 6,
    "attention_head_dim": 4,
}


def built(config, **fields):
    spec = {
        "schedule": "linear",
        "process": "variance-preserving",
        "model": {"id": "diffusers.unet-2d", "config": config},
        "loss": "simple",
        "sampler": "ddpm",
        "data": {"shape": [1, 8, 8], "range": [-1.0, 1.0]},
    }
    return diffkit.build({**spec, **fields}, device="cpu")


@pytest.mark.parametrize("part", ["", "unet"])
def test_the_folder_of_a_pipeline_or_of_its_network(part, tmp_path):
    pipe = theirs(TUTORIAL)
    folder = saved(pipe, tmp_path / "pipe") / part
    pipeline = built({"folder": str(folder)})
    x = noise(2, 1, 8, 8)
    for index in (0, 1, 500, 999):
        expected = their_output(pipe.unet, x, index)
        # The same code; the index is exact in float32.
        assert torch.equal(our_output(pipeline, x, index), expected)


def test_names_of_attention_in_early_folders(tmp_path):
    pipe = theirs(TUTORIAL)
    folder = with_old_names(saved(pipe, tmp_path / "pipe"))
    # A key that diffusers no longer knows, and that is null, says nothing.
    edited(folder, "unet/config.json", odd=None)
    pipeline = built({"folder": str(folder)})
    x = noise(2, 1, 8, 8)
    assert torch.equal(our_output(pipeline, x, 7), their_output(pipe.unet, x, 7))


def test_another_number_of_steps():
    pipeline = built(
        {"architecture": TUTORIAL, "steps": 50}, schedule={"id": "linear", "config": {"steps": 50}}
    )
    x = noise(2, 1, 8, 8)
    network = pipeline.parts.model.network
    for index in (0, 1, 30, 49):
        expected = their_output(network, x, index)
        # 1000 (k / 50) (50 / 1000) - 1 in float32 is k - 1 but for rounding.
        assert torch.allclose(our_output(pipeline, x, index), expected, rtol=0, atol=1e-5)


def test_a_fresh_network_is_saved_and_loaded(tmp_path):
    pipeline = built({"architecture": TUTORIAL})
    pipeline.save(tmp_path / "run")
    again = diffkit.load(tmp_path / "run", device="cpu")
    x = noise(2, 1, 8, 8)
    assert torch.equal(our_output(again, x, 7), our_output(pipeline, x, 7))
    assert pipeline.sample(2, steps=3, progress=False).shape == (2, 1, 8, 8)


def test_text_conditions():
    pipeline = built({"architecture": TEXT})
    assert pipeline.parts.conditions == ("encoder_hidden_states",)
    assert type(pipeline.parts.model.network) is UNet2DConditionModel
    x, text = noise(2, 1, 8, 8), noise(2, 3, 6, seed=1)
    with torch.no_grad():
        expected = pipeline.parts.model.network(x, 499, encoder_hidden_states=text).sample
        denoiser = pipeline.system.denoiser(condition={"encoder_hidden_states": text})
        assert torch.allclose(denoiser(x, 0.5).output, expected, rtol=0, atol=1e-6)


def test_classes():
    pipeline = built({"architecture": {**TUTORIAL, "num_class_embeds": 10}})
    assert pipeline.parts.conditions == ("class_labels",)
    labels = torch.tensor([3, 4])
    denoiser = pipeline.system.denoiser(condition={"class_labels": labels})
    with torch.no_grad():
        assert denoiser(noise(2, 1, 8, 8), 0.5).output.shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "either folder or architecture"),
        ({"folder": "x", "architecture": {}}, "either folder or architecture"),
        ({"architecture": small(in_channels=3)}, "in_channels = 3"),
        ({"architecture": small(out_channels=2)}, "out_channels = 2"),
        ({"architecture": small(time_embedding_type="fourier")}, "time_embedding_type = 'fourier'"),
        ({"architecture": {"_class_name": "AutoencoderKL"}}, "_class_name = 'AutoencoderKL'"),
        ({"architecture": {**TEXT, "addition_embed_type": "text"}}, "addition_embed_type = 'text'"),
        ({"architecture": small(no_such_option=1)}, "no_such_option"),
        ({"folder": "nowhere"}, "nowhere"),
        ({"architecture": small(attention_head_dim=0)}, "ZeroDivisionError"),
        ({"architecture": small(norm_num_groups=0)}, "ZeroDivisionError"),
        ({"architecture": small(block_out_channels=16)}, "cannot make a UNet2DModel"),
        ({"architecture": small((True,) * 5)}, "multiples of 16"),
    ],
    ids=str,
)
def test_what_is_not_supported_is_refused_by_name(config, message):
    with pytest.raises(SpecError) as refusal:
        built(config)
    assert message in str(refusal.value)
    with pytest.raises((ComponentError, CheckpointError)):
        DiffusersUNet(shape=(1, 8, 8), **config)


def test_a_schedule_of_other_steps_is_refused():
    with pytest.raises(SpecError, match="multiples of 1/1000"):
        built({"architecture": TUTORIAL}, schedule={"id": "linear", "config": {"steps": 100}})


def test_sizes_that_the_levels_do_not_halve():
    odd = {"shape": [1, 7, 8], "range": [-1.0, 1.0]}
    with pytest.raises(SpecError, match=r"2 levels, .*\[1, 7, 8\]; height .* multiples of 2"):
        built({"architecture": TUTORIAL}, data=odd)
    # One level halves nothing, and a UNet2DConditionModel brings back the size it halved.
    pipeline = built({"architecture": small((True,))}, data=odd)
    assert our_output(pipeline, noise(2, 1, 7, 8), 3).shape == (2, 1, 7, 8)
    pipeline = built({"architecture": TEXT}, data=odd)
    denoiser = pipeline.system.denoiser(condition={"encoder_hidden_states": noise(2, 3, 6)})
    with torch.no_grad():
        assert denoiser(noise(2, 1, 7, 8), 0.5).output.shape == (2, 1, 7, 8)
