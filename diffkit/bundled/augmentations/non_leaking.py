"""Geometric augmentation that the network is told of, so that samples show none of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from diffkit.core.augmentation import Augmentation, each_picture, picture_problems
from diffkit.core.component import Config, Facts
from diffkit.core.loss import Batch
from diffkit.core.noise import Noise

LABEL, SIZE = "augmentation", 9
_SCALE, _MOVE = 0.2, 0.125


class NonLeaking(Augmentation):
    """Mirrors, scales, turns, stretches and moves pictures. Karras et al. (2022), table 6.

    With a and b uniform or normal as there: mirrored left to right with probability 1/2; and each
    with `probability` upside down, scaled by `2^(0.2 a)`, turned by `pi b`, stretched by
    `2^(0.2 a)` in a direction `pi b`, moved by `a/8` of the sides. The condition `augmentation`,
    `[b, 9]`, holds these numbers, and zeros where nothing was done, as in sampling.

    The paper's resampling filter is longer; here it is bilinear, of the picture reflected.

    Args:
        probability: of all but the first. The paper takes 0.12 for pictures of 32 pixels.
    """

    def __init__(self, *, probability: Annotated[float, Ge(0), Le(1)] = 0.12) -> None:
        self._probability = probability

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """The label."""
        return {"adds": {LABEL: (SIZE,)}}

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Pictures."""
        yield from picture_problems(facts)

    def __call__(self, batch: Batch, noise: Noise, pictures: tuple[str, ...]) -> Batch:
        """Values stay within their range."""
        count = len(batch)
        chosen = noise.uniform((count, 6)) < self._probability
        uniform, normal = noise.uniform((count, 4)), noise.normal((count, 4))
        zero = torch.zeros((), device=uniform.device)
        mirrored = (uniform[:, 0] < 0.5).float()
        upside_down = torch.where(chosen[:, 0], (uniform[:, 1] < 0.5).float(), zero)
        scale = torch.where(chosen[:, 1], normal[:, 0], zero)
        turn = torch.where(chosen[:, 2], math.pi * (2.0 * uniform[:, 2] - 1.0), zero)
        stretch = torch.where(chosen[:, 3], normal[:, 1], zero)
        direction = math.pi * (2.0 * uniform[:, 3] - 1.0)
        move = torch.where(chosen[:, 4:5], normal[:, 2:4], zero)
        numbers = (mirrored, upside_down, scale, turn.cos() - 1.0, turn.sin())
        label = torch.stack(
            [*numbers, stretch * direction.cos(), stretch * direction.sin(), *move.unbind(1)], dim=1
        )
        inverse = _inverse(scale, turn, stretch, direction, move, batch.x_0.shape[-2:])
        still = ((scale == 0) & (turn == 0) & (stretch == 0) & (move == 0).all(1))[:, None]
        flips = [w.bool()[:, None, None, None] for w in (mirrored, upside_down)]

        def changed(picture: Tensor) -> Tensor:
            for flip, side in zip(flips, (-1, -2), strict=True):
                picture = torch.where(flip, picture.flip(side), picture)
            grid = affine_grid(inverse, list(picture.shape), align_corners=False)
            moved = grid_sample(
                picture.float(), grid, padding_mode="reflection", align_corners=False
            )
            return torch.where(still[:, :, None, None], picture, moved.to(picture.dtype))

        found = each_picture(batch, pictures, changed)
        return Batch(found.x_0, {**found.condition, LABEL: label})


def _inverse(
    scale: Tensor,
    turn: Tensor,
    stretch: Tensor,
    direction: Tensor,
    move: Tensor,
    size: torch.Size,
) -> Tensor:
    """`[b, 2, 3]`: where each pixel comes from, in coordinates from -1 to 1 on each side.

    A picture is scaled, turned, stretched and then moved; the inverse of each is applied in the
    other order. Turning is in pixels, so that pictures that are not square are not sheared.
    """
    height, width = size
    smaller = (2.0 ** (-_SCALE * scale))[:, None, None] * torch.eye(2, device=scale.device)
    ratio = 2.0 ** (-_SCALE * stretch)
    narrower = torch.diag_embed(torch.stack([ratio, 1.0 / ratio], dim=1))
    unstretched = _rotation(direction) @ narrower @ _rotation(-direction)
    linear = smaller @ _rotation(-turn) @ unstretched
    pixels = torch.tensor([width, height], dtype=scale.dtype, device=scale.device)
    # From sides to pixels, and back: D^-1 A D.
    normalized = linear * pixels[None, None, :] / pixels[None, :, None]
    offset = -(normalized @ (2.0 * _MOVE * move)[:, :, None])
    return torch.cat([normalized, offset], dim=2)


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
