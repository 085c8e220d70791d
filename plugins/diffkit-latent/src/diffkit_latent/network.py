"""The convolutional network of the KL autoencoder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffkit.errors import ComponentError

if TYPE_CHECKING:
    from jaxtyping import Float

_LOG_VARIANCE = (-30.0, 20.0)


@dataclass(frozen=True)
class Architecture:
    """The sizes of the network.

    Args:
        channels: of the images.
        width: channels at full resolution.
        multipliers: the channels of each level as multiples of `width`; each level but the first
            has half the height and width of the one before.
        blocks: residual blocks a level, in the encoder and in the decoder.
        latent_channels: of the latents.
        groups: groups of each normalisation; divides the channels of every level.
    """

    channels: int = 3
    width: int = 16
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 1
    latent_channels: int = 4
    groups: int = 8

    def __post_init__(self) -> None:
        numbers = [self.channels, self.width, self.blocks, self.latent_channels, self.groups]
        given = [*numbers, *self.multipliers]
        if not self.multipliers or any(type(n) is not int or n < 1 for n in given):
            raise ComponentError("kl: every size is a whole number, at least 1")
        if wrong := [m * self.width for m in self.multipliers if m * self.width % self.groups]:
            raise ComponentError(
                f"kl: groups = {self.groups} does not divide {wrong[0]} channels; change groups, "
                "width or multipliers"
            )

    @property
    def factor(self) -> int:
        """How many pixels of a side become one."""
        return int(2 ** (len(self.multipliers) - 1))

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of images of this shape. Raises ComponentError where they cannot be encoded."""
        return latent_shape(shape, self.channels, self.latent_channels, self.factor)

    def as_data(self) -> dict[str, Any]:
        """For a JSON file."""
        return {**dataclasses.asdict(self), "multipliers": list(self.multipliers)}


class Posterior(NamedTuple):
    """A diagonal normal distribution over latents."""

    mean: Tensor
    log_variance: Tensor

    def kl(self) -> Float[Tensor, " b"]:
        """To the standard normal, in nats a sample: `sum (mu^2 + sigma^2 - 1 - log sigma^2) / 2`.

        Kingma & Welling (2014), appendix B.
        """
        terms = self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance
        return 0.5 * terms.flatten(1).sum(1)


class Network(nn.Module):
    """Residual blocks down to the posterior over latents, and up again.

    As the first stage of Rombach et al. (2022), appendix G, without attention: group normalisation,
    SiLU, strided convolutions down, nearest-neighbour up. Latents here are not scaled.
    """

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.sizes = sizes
        widths = [sizes.width * m for m in sizes.multipliers]
        deepest, groups = widths[-1], sizes.groups
        down: list[nn.Module] = [nn.Conv2d(sizes.channels, widths[0], 3, padding=1)]
        for here, there in pairwise([widths[0], *widths]):
            if len(down) > 1:
                down.append(nn.Conv2d(here, here, 3, stride=2, padding=1))
            down += _blocks(here, there, sizes)
        self.down = nn.Sequential(*down, *_last(deepest, 2 * sizes.latent_channels, groups))
        up: list[nn.Module] = [nn.Conv2d(sizes.latent_channels, deepest, 3, padding=1)]
        for here, there in pairwise([deepest, *reversed(widths)]):
            if len(up) > 1:
                up += [nn.Upsample(scale_factor=2.0), nn.Conv2d(here, here, 3, padding=1)]
            up += _blocks(here, there, sizes)
        self.up = nn.Sequential(*up, *_last(widths[0], sizes.channels, groups))

    @property
    def last(self) -> Tensor:
        """The weight of the last layer of the decoder."""
        layer = self.up[-1]
        assert isinstance(layer, nn.Conv2d)
        return layer.weight

    def posterior(self, x: Float[Tensor, "b c h w"]) -> Posterior:
        """Of the latents of each image."""
        mean, log_variance = self.down(x).chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(*_LOG_VARIANCE))

    def images(self, z: Float[Tensor, "b k p q"]) -> Float[Tensor, "b c h w"]:
        """The images behind latents."""
        x: Tensor = self.up(z)
        return x

    def forward(
        self, x: Float[Tensor, "b c h w"], epsilon: Float[Tensor, "b k p q"]
    ) -> tuple[Float[Tensor, "b c h w"], Posterior]:
        """The images of latents drawn with the noise `epsilon`, and what those were drawn from."""
        posterior = self.posterior(x)
        z = posterior.mean + torch.exp(0.5 * posterior.log_variance) * epsilon
        return self.images(z), posterior


def latent_shape(
    shape: tuple[int, ...], channels: int, latent_channels: int, factor: int
) -> tuple[int, ...]:
    """Of images of this shape. Raises ComponentError where they cannot be encoded."""
    if len(shape) != 3:
        raise ComponentError(
            f"it takes images, channels x height x width, and the data's shape is {list(shape)}"
        )
    if shape[0] != channels:
        raise ComponentError(
            f"it was made for images of {channels} channels, and the data's have {shape[0]}; take "
            "another autoencoder, or give the dataset other channels"
        )
    if shape[1] % factor or shape[2] % factor:
        raise ComponentError(
            f"it makes images {factor} times smaller, and {factor} does not divide "
            f"{shape[1]}x{shape[2]}; give the images sides that it divides"
        )
    return (latent_channels, shape[1] // factor, shape[2] // factor)


class _Block(nn.Module):
    def __init__(self, here: int, there: int, groups: int) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups, here)
        self.conv_1 = nn.Conv2d(here, there, 3, padding=1)
        self.norm_2 = nn.GroupNorm(groups, there)
        self.conv_2 = nn.Conv2d(there, there, 3, padding=1)
        self.skip = nn.Identity() if here == there else nn.Conv2d(here, there, 1)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        hidden = self.conv_1(functional.silu(self.norm_1(x)))
        hidden = self.conv_2(functional.silu(self.norm_2(hidden)))
        total: Tensor = self.skip(x) + hidden
        return total


def _blocks(here: int, there: int, sizes: Architecture) -> list[nn.Module]:
    first = _Block(here, there, sizes.groups)
    return [first, *(_Block(there, there, sizes.groups) for _ in range(sizes.blocks - 1))]


def _last(here: int, there: int, groups: int) -> list[nn.Module]:
    return [nn.GroupNorm(groups, here), nn.SiLU(), nn.Conv2d(here, there, 3, padding=1)]
