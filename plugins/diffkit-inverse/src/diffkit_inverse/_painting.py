"""What the methods share that put the known part of an image into each state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.sampler import State
from diffkit_inverse._checks import fitting, gaussian, predicted


class Canvas(NamedTuple):
    """An image, and where it is to be painted."""

    image: Tensor
    unknown: Tensor
    """True where it is to be painted."""


def canvas(name: str, inputs: Mapping[str, Tensor], like: Tensor) -> Canvas:
    """The inputs `image` and `mask`, fit for samples like these. Raises ComponentError."""
    image = fitting(name, "image", inputs["image"], like)
    # Nearest to 1 or to 0, so that a mask read from a picture need not be exact.
    return Canvas(image, fitting(name, "mask", inputs["mask"], like) > 0.5)


def painted_step(
    name: str,
    denoiser: Denoiser,
    x_t: Tensor,
    t: float,
    s: float,
    noise: Noise,
    on: Canvas,
) -> State:
    """An ancestral step, after which the known part is a draw from `q(x_s | x_0 = image)`.

        x_s = mask x_s' + (1 - mask) (alpha_s image + sigma_s z),  x_s' ~ p(x_s | x_t)

    Song et al. (2021), SDE, appendix I.2; Lugmayr et al. (2022), eq. 8. At s = 0 the known part
    is the image itself.
    """
    process = gaussian(name, denoiser)
    prediction = predicted(name, denoiser, x_t, t)
    sampled = process.reverse(prediction, x_t, t, s, noise)
    image = on.image.expand(x_t.shape)
    known = image if s == 0.0 else process.diffuse(image, s, noise.normal(x_t.shape))
    return State(torch.where(on.unknown, sampled, known), s, prediction)
