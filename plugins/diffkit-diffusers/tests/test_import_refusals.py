"""What cannot be imported with equal outputs is refused by name, and nothing unsafe is read."""

from __future__ import annotations

import pytest
import torch
from diffkit.errors import CheckpointError, ComponentError
from safetensors.torch import load_file, save_file

from diffkit_diffusers import import_pipeline

from .small_pipelines import edited, saved, theirs

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
UNSUPPORTED = {
    "unet/config.json": [
        {"norm_eps": 1e-5},
        {"downsample_padding": 1},
        {"freq_shift": 0},
        {"freq_shift": True},
        {"flip_sin_to_cos": 1},
        {"center_input_sample": True},
        {"time_embedding_type": "fourier"},
        {"time_embedding_dim": 128},
        {"mid_block_type": None},
        {"mid_block_scale_factor": 2},
        {"downsample_type": "resnet"},
        {"upsample_type": "resnet"},
        {"act_fn": "gelu"},
        {"resnet_time_scale_shift": "scale_shift"},
        {"add_attention": False},
        {"class_embed_type": "timestep"},
        {"num_class_embeds": 10},
        {"attn_norm_num_groups": 2},
        {"norm_num_groups": None},
        {"out_channels": 2},
        {"block_out_channels": [16, 24]},
        {"block_out_channels": "16"},
        {"attention_head_dim": 3},
        {"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]},
        {"up_block_types": ["UpBlock2D", "UpBlock2D"]},
        {"sample_size": None},
        {"sample_size": 7},
        {"layers_per_block": 1.5},
        {"dropout": "a"},
        {"new_option": 1},
    ],
    "scheduler/scheduler_config.json": [
        {"num_train_timesteps": 500},
        {"beta_schedule": "scaled_linear"},
        {"beta_start": "x"},
        {"trained_betas": [0.1]},
        {"variance_type": "learned_range"},
        {"prediction_type": "flow"},
        {"thresholding": True},
        {"clip_sample": 1},
        {"timestep_spacing": "linspace"},
        {"steps_offset": 1},
        {"rescale_betas_zero_snr": True},
        {"predict_epsilon": False},
    ],
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return saved(theirs(), tmp_path_factory.mktemp("folders") / "plain")


@pytest.fixture
def folder(plain, tmp_path):
    """A copy without the weights, so that refusals are seen to come before they are read."""
    for file in ("model_index.json", *UNSUPPORTED):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text((plain / file).read_text())
    return tmp_path


@pytest.mark.parametrize(
    ("file", "change"),
    [(file, change) for file, changes in UNSUPPORTED.items() for change in changes],
    ids=str,
)
def test_what_is_not_supported_is_refused_by_name(file, change, folder):
    edited(folder, file, **change)
    ((key, value),) = change.items()
    with pytest.raises(ComponentError) as refusal:
        import_pipeline(folder)
    assert f"{key} = {value!r}" in str(refusal.value)
    assert file in str(refusal.value)


def test_all_that_is_not_supported_is_named_at_once(folder):
    edited(folder, "unet/config.json", norm_eps=1e-5, freq_shift=0)
    edited(folder, "scheduler/scheduler_config.json", thresholding=True)
    with pytest.raises(ComponentError) as refusal:
        import_pipeline(folder)
    for key in ("norm_eps", "freq_shift", "thresholding"):
        assert key in str(refusal.value)


def test_another_clip_range_on_trailing_times_is_refused(folder):
    edited(
        folder,
        "scheduler/scheduler_config.json",
        timestep_spacing="trailing",
        clip_sample=True,
        clip_sample_range=0.25,
    )
    with pytest.raises(ComponentError, match=r"clip_sample_range = 0.25 \(with .* it must be 1\.0"):
        import_pipeline(folder)


HINT = "The model 'diffusers.unet-2d' takes the network as it is"


@pytest.mark.parametrize(
    ("change", "hinted"),
    [
        ({"norm_eps": 1e-5}, True),
        ({"freq_shift": 0, "downsample_padding": 1}, True),
        ({"num_class_embeds": 10}, True),
        ({"sample_size": None}, True),
        ({"time_embedding_type": "fourier"}, False),
        ({"out_channels": 2}, False),
        ({"sample_size": 7}, False),
        ({"sample_size": "ab"}, False),
        ({"norm_num_groups": None}, False),
        ({"norm_num_groups": 0}, False),
        ({"block_out_channels": "16"}, False),
        ({"new_option": 1}, False),
    ],
    ids=str,
)
def test_the_model_that_takes_a_network_is_named_where_it_does(change, hinted, folder):
    edited(folder, "unet/config.json", **change)
    with pytest.raises(ComponentError) as refusal:
        import_pipeline(folder)
    assert (HINT in str(refusal.value)) is hinted


def test_the_model_is_not_named_for_a_scheduler(folder):
    edited(folder, "scheduler/scheduler_config.json", thresholding=True)
    with pytest.raises(ComponentError) as refusal:
        import_pipeline(folder)
    assert "diffusers.unet-2d" not in str(refusal.value)


def test_ddim_that_does_not_end_at_data_is_refused(tmp_path):
    folder = saved(theirs(ddim=True, set_alpha_to_one=False), tmp_path / "pipe")
    with pytest.raises(ComponentError, match="set_alpha_to_one = False"):
        import_pipeline(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"_class_name": "StableDiffusionPipeline"},
        {"unet": ["diffusers", "UNet2DConditionModel"]},
        {"unet": ["os", "system"]},
        {"unet": "UNet2DModel"},
        {"scheduler": ["diffusers", "PNDMScheduler"]},
    ],
    ids=str,
)
def test_other_classes_are_refused(change, folder):
    edited(folder, "model_index.json", **change)
    with pytest.raises(ComponentError, match=f"{next(iter(change))} = "):
        import_pipeline(folder)


def test_a_pickle_is_never_read(folder):
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(CheckpointError, match="safe_serialization=True"):
        import_pipeline(folder)


def test_no_weights(folder):
    with pytest.raises(CheckpointError, match="cannot be read"):
        import_pipeline(folder)


@pytest.mark.parametrize("content", [b"", b"garbage that is long enough to have a length in it"])
def test_weights_that_are_not_whole(content, folder):
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        import_pipeline(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("conv_in.weight"), "lack conv_in.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), "hold extra"),
        (lambda w: w.update({"conv_in.bias": torch.zeros(3)}), r"conv_in.bias has the shape \[3\]"),
    ],
)
def test_weights_that_do_not_fit(change, message, plain, folder):
    weights = load_file(plain / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=message):
        import_pipeline(folder)


def test_not_a_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        import_pipeline(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"holds no model_index\.json"):
        import_pipeline(tmp_path)
