"""The blocks of the U-Net."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def norm(channels: int, groups: int) -> nn.GroupNorm:
    """Group normalisation with the epsilon of Ho et al. (2020)'s code."""
    return nn.GroupNorm(groups, channels, eps=1e-6)


def silu_inplace(x: Tensor) -> Tensor:
    """SiLU of a tensor that nobody else holds: written over it where no gradient needs it.

    On CPUs the memory of a new result costs as much time as the function.
    """
    return F.silu(x, inplace=not (torch.is_grad_enabled() and x.requires_grad))


class ResidualBlock(nn.Module):
    """Two norm-SiLU-convolution stages, the noise embedding added between, and a skip."""

    def __init__(
        self, channels: int, out_channels: int, embedding: int, dropout: float, groups: int
    ) -> None:
        super().__init__()
        self.norm_1 = norm(channels, groups)
        self.conv_1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.embed = nn.Linear(embedding, out_channels)
        self.norm_2 = norm(out_channels, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip: nn.Module = nn.Identity()
        if channels != out_channels:
            self.skip = nn.Conv2d(channels, out_channels, 1)

    def forward(
        self, x: Float[Tensor, "b c h w"], embedding: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b c_out h w"]:
        """The block's output."""
        hidden: Tensor = self.conv_1(silu_inplace(self.norm_1(x)))
        # In place, since no convolution needs its own output to find gradients.
        hidden += self.embed(F.silu(embedding))[:, :, None, None]
        hidden = self.conv_2(self.dropout(silu_inplace(self.norm_2(hidden))))
        hidden += self.skip(x)
        return hidden


class AttentionBlock(nn.Module):
    """Self-attention over the pixels, with a skip."""

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm(channels, groups)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The block's output."""
        pixels = rearrange(self.norm(x), "b c h w -> b (h w) c")
        query, key, value = rearrange(
            self.query_key_value(pixels), "b n (three k d) -> three b k n d", three=3, k=self.heads
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        mixed = self.out(rearrange(attended, "b k n d -> b n (k d)"))
        out: Tensor = x + rearrange(mixed, "b (h w) c -> b c h w", h=x.shape[2])
        return out


class CrossAttentionBlock(nn.Module):
    """Attention from the pixels to the tokens of a condition, with a skip.

    Rombach et al. (2022), section 3.3. Tokens that the mask leaves out have no effect.
    """

    def __init__(self, channels: int, tokens: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm(channels, groups)
        self.norm_tokens = nn.LayerNorm(tokens)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(tokens, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        tokens: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n"],
    ) -> Float[Tensor, "b c h w"]:
        """The block's output."""
        pixels = rearrange(self.norm(x), "b c h w -> b (h w) c")
        query = rearrange(self.query(pixels), "b n (k d) -> b k n d", k=self.heads)
        key, value = rearrange(
            self.key_value(self.norm_tokens(tokens.to(x.dtype))),
            "b n (two k d) -> two b k n d",
            two=2,
            k=self.heads,
        )
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None, :]
        )
        mixed = self.out(rearrange(attended, "b k n d -> b n (k d)"))
        out: Tensor = x + rearrange(mixed, "b (h w) c -> b c h w", h=x.shape[2])
        return out


class Downsample(nn.Module):
    """Half the height and width, by a strided convolution.

    Padded on the right and below only, as in Ho et al. (2020)'s code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """The smaller image."""
        smaller: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return smaller


class Upsample(nn.Module):
    """Nearest-neighbour enlargement to the size of the skip that waits there, and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "b c h w"], size: tuple[int, int]
    ) -> Float[Tensor, "b c h2 w2"]:
        """The larger image."""
        larger: Tensor = self.conv(F.interpolate(x, size=size, mode="nearest"))
        return larger
