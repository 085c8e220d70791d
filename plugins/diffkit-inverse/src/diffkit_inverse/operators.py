"""What is measured of an image: linear maps that gradients pass."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from diffkit.errors import ComponentError

_REACH = 3.0
"""Standard deviations at which the blur's kernel ends."""


def pooled(name: str, x: Tensor, factor: int) -> Tensor:
    """The mean of each square of `factor` by `factor` pixels, `[b, c, h, w]` to
    `[b, c, h / factor, w / factor]`.

    Raises:
        ComponentError: these are not images, or the factor does not divide their size.
    """
    height, width = _size(name, x)
    if height % factor or width % factor:
        raise ComponentError(
            f"{name}: factor = {factor} does not divide images of {height} x {width}; "
            "choose a factor that divides both"
        )
    return F.avg_pool2d(x, factor)


def blurred(name: str, x: Tensor, sigma: float) -> Tensor:
    """The image `[b, c, h, w]` under a Gaussian kernel of deviation `sigma` pixels.

    The kernel ends at three deviations, and what is outside the image is its mirror image.

    Raises:
        ComponentError: these are not images, or the kernel reaches farther than they are wide.
    """
    height, width = _size(name, x)
    radius = math.ceil(_REACH * sigma)
    if radius >= min(height, width):
        raise ComponentError(
            f"{name}: sigma = {sigma:g} makes a kernel that reaches {radius} pixels, and images "
            f"of {height} x {width} can be mirrored by {min(height, width) - 1} at most; choose a "
            f"sigma of at most {(min(height, width) - 1) / _REACH:.3g}"
        )
    places = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.softmax(-0.5 * (places / sigma).square(), dim=0)
    planes = F.pad(x.flatten(0, 1).unsqueeze(1), [radius] * 4, mode="reflect")
    across = F.conv2d(planes, kernel.reshape(1, 1, 1, -1))
    return F.conv2d(across, kernel.reshape(1, 1, -1, 1)).reshape(x.shape)


def _size(name: str, x: Tensor) -> tuple[int, int]:
    if x.ndim != 4:
        raise ComponentError(
            f"{name}: it measures images [b, c, h, w], and these samples have the shape "
            f"{list(x.shape)}"
        )
    return x.shape[2], x.shape[3]
