"""The stages of the U-Net, level by level."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import nn

from diffkit.bundled.models.unet_blocks import (
    AttentionBlock,
    CrossAttentionBlock,
    Downsample,
    ResidualBlock,
    Upsample,
)


@dataclass(frozen=True)
class Stages:
    """Makes the stages: residual blocks, each with the attention of its level.

    Args:
        width: channels at full resolution.
        channels: of each level.
        attended: the levels with attention.
        blocks: residual blocks of each level on the way down.
        heads: of attention.
        dropout: in the residual blocks.
        groups: of each normalisation.
        tokens: the width of tokens that are attended to; None without.
    """

    width: int
    channels: Sequence[int]
    attended: Collection[int]
    blocks: int
    heads: int
    dropout: float
    groups: int
    tokens: int | None

    def down(self) -> tuple[nn.ModuleList, list[int]]:
        """Those on the way down, and the channels of every state that is kept for the way up."""
        stages, kept = nn.ModuleList(), [self.width]
        for level, channels in enumerate(self.channels):
            if level:
                stages.append(Downsample(kept[-1]))
                kept.append(kept[-1])
            for _ in range(self.blocks):
                stages.append(self._stage(level, kept[-1]))
                kept.append(channels)
        return stages, kept

    def middle(self) -> nn.ModuleList:
        """Attention between two residual blocks, at the lowest resolution."""
        here = self.channels[-1]
        attention = AttentionBlock(here, self.heads, self.groups)
        return nn.ModuleList([self._residual(here, here), attention, self._residual(here, here)])

    def up(self, kept: Sequence[int]) -> nn.ModuleList:
        """Those on the way up, which also take what was kept, the last first."""
        stages, here, left = nn.ModuleList(), self.channels[-1], list(kept)
        for level, channels in reversed(list(enumerate(self.channels))):
            for _ in range(self.blocks + 1):
                stages.append(self._stage(level, here + left.pop()))
                here = channels
            if level:
                stages.append(Upsample(here))
        return stages

    def cross_attention(self, level: int) -> list[nn.Module]:
        """What looks at tokens, if anything does."""
        if self.tokens is None:
            return []
        return [CrossAttentionBlock(self.channels[level], self.tokens, self.heads, self.groups)]

    def _stage(self, level: int, inside: int) -> nn.ModuleList:
        residual = self._residual(inside, self.channels[level])
        if level not in self.attended:
            return nn.ModuleList([residual, nn.Identity()])
        attention = AttentionBlock(self.channels[level], self.heads, self.groups)
        return nn.ModuleList([residual, attention, *self.cross_attention(level)])

    def _residual(self, inside: int, outside: int) -> ResidualBlock:
        return ResidualBlock(inside, outside, 4 * self.width, self.dropout, self.groups)
