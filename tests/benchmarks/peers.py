"""The same network in both libraries: DDPM's CIFAR-10 U-Net, with the same weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from diffkit_diffusers import import_pipeline
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

import diffkit

FLOP_PER_IMAGE = 199e9 / 16
"""Of one forward pass: its convolutions and products, counted as two a multiply-add."""
CIFAR10 = {
    "sample_size": 32,
    "block_out_channels": [128, 256, 256, 256],
    "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
    "dropout": 0.1,
}


def same_network(device: torch.device) -> tuple[UNet2DModel, diffkit.Pipeline]:
    """diffusers' network with random weights, and a diffkit pipeline that imported it."""
    torch.manual_seed(0)
    theirs = UNet2DModel(**CIFAR10).eval()
    with tempfile.TemporaryDirectory() as folder:
        DDPMPipeline(theirs, DDPMScheduler()).save_pretrained(folder)
        pipeline = import_pipeline(Path(folder))
    return theirs.to(device), pipeline.to(device)
