"""Other libraries, asked to do what diffkit does.

azula and denoising-diffusion-pytorch are installed without their dependencies:
`pip install --no-deps azula denoising-diffusion-pytorch`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

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


def azula_loop(
    name: str, steps: int, x: torch.Tensor, output: torch.Tensor
) -> Callable[[], torch.Tensor]:
    """A trajectory of azula's, with a network that costs nothing."""
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VPSchedule
    from azula.sample import DDIMSampler, DDPMSampler, EulerSampler, HeunSampler

    class Free(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = VPSchedule()

        def forward(self, x_t, t, **kwargs):
            alpha, sigma = self.schedule(t)
            return DiracPosterior((x_t - sigma * output) / alpha)

    kinds = {"DDIM": DDIMSampler, "DDPM": DDPMSampler, "Euler": EulerSampler, "Heun": HeunSampler}
    sampler = kinds[name](Free(), steps=steps, silent=True)
    return lambda: sampler(x)


def lucidrains() -> ModuleType:
    """denoising-diffusion-pytorch, without what it imports for training only."""
    for absent in ("torchvision", "ema_pytorch"):
        if absent not in sys.modules:
            stand_in = ModuleType(absent)
            for name in ("transforms", "utils", "EMA"):
                setattr(stand_in, name, None)
            sys.modules[absent] = stand_in
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch

    return denoising_diffusion_pytorch


def lucidrains_loop(name: str, steps: int, output: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A trajectory of denoising-diffusion-pytorch's, with a network that costs nothing."""
    library = lucidrains()
    library.tqdm = lambda steps, **options: steps

    class Free(torch.nn.Module):
        channels = out_dim = output.shape[1]
        self_condition = False

        def forward(self, x, t, x_self_cond=None):
            return output

    grid = {"timesteps": steps} if name == "DDPM" else {"sampling_timesteps": steps}
    diffusion = library.GaussianDiffusion(
        Free(),
        image_size=output.shape[-1],
        objective="pred_noise",
        beta_schedule="cosine",
        **grid,
    )
    loop = diffusion.p_sample_loop if name == "DDPM" else diffusion.ddim_sample
    return lambda: loop(tuple(output.shape))
