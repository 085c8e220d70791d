"""Small pipelines of both libraries, with random weights."""

from __future__ import annotations

import json

import diffkit
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

# What the paper's models share, and diffkit's U-Net with them.
PAPER = {
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}
CIFAR10 = {
    **PAPER,
    "sample_size": 32,
    "block_out_channels": [128, 256, 256, 256],
    "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}


def small(attention=(False, True), **changes):
    """The configuration of a small U-Net, with attention at the levels where it is true."""
    return {
        **PAPER,
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": [16] * len(attention),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ["AttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        "up_block_types": ["AttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]],
        **changes,
    }


def randomize(module, seed=0):
    """Give every parameter random values, such that outputs are of order 0.3.

    A network that answers stronger than it is asked makes trajectories chaotic, and rounding grows.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                gain = 0.3 if name.startswith(("last.", "conv_out.")) else 1.0
                parameter.copy_(gain * noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * noise + ("norm" in name and name.endswith("weight")))
    return module


def theirs(network=None, ddim=False, seed=0, **scheduler):
    """A pipeline of diffusers."""
    unet = randomize(UNet2DModel(**(small() if network is None else network)), seed).eval()
    if ddim:
        return DDIMPipeline(unet=unet, scheduler=DDIMScheduler(**scheduler))
    return DDPMPipeline(unet=unet, scheduler=DDPMScheduler(**scheduler))


def ours(shape=(1, 8, 8), model=None, range_=(-1.0, 1.0), **fields):
    """A pipeline of diffkit."""
    config = {"width": 16, "multipliers": [1, 1], "blocks": 1, "groups": 4, **(model or {})}
    pipeline = diffkit.build(
        {
            "schedule": "linear",
            "process": "variance-preserving",
            "model": {"id": "unet", "config": config},
            "loss": "simple",
            "sampler": "ddpm",
            "data": {"shape": list(shape), "range": range_ and list(range_)},
            **fields,
        },
        device="cpu",
    )
    randomize(pipeline.parts.model)
    return pipeline


def saved(pipeline, path):
    """The folder of a pipeline of diffusers."""
    pipeline.save_pretrained(path)
    return path


def their_output(unet, x, index):
    with torch.no_grad():
        return unet(x, torch.full((len(x),), index)).sample


def our_output(pipeline, x, index):
    """The output at diffusers' index, which is k - 1."""
    t = (index + 1) / pipeline.parts.schedule.steps
    with torch.no_grad():
        return pipeline.system.denoiser()(x, t).output


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def their_loop(pipeline, x, steps, generator=None):
    """The loop of diffusers' pipelines, but for turning the result into pictures."""
    pipeline.scheduler.set_timesteps(steps)
    with torch.no_grad():
        for index in pipeline.scheduler.timesteps:
            output = pipeline.unet(x, index).sample
            x = pipeline.scheduler.step(output, index, x, generator=generator).prev_sample
    return x


def start(pipeline, num, seed=0, **choices):
    """The pure noise with which `sample` begins."""
    return next(pipeline.trajectory(num, seed=seed, **choices)).x


def edited(folder, file, **changes):
    """Change keys of a JSON file of the folder; ... removes one."""
    path = folder / file
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not ...}))
    return folder


def with_old_names(folder):
    """The folder with attention's weights named as early versions of diffusers named them."""
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, tensor in load_file(path).items():
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        weights[name] = tensor
    assert any(".proj_attn." in name for name in weights)
    save_file(weights, path)
    return folder
