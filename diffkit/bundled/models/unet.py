"""The U-Net of DDPM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Gt, Le, MinLen
from torch import Tensor, nn

from diffkit.bundled.models.embedding import NoiseEmbedding
from diffkit.bundled.models.unet_blocks import (
    AttentionBlock,
    CrossAttentionBlock,
    Downsample,
    ResidualBlock,
    Upsample,
    norm,
    silu_inplace,
)
from diffkit.bundled.models.unet_stages import Stages
from diffkit.core.component import Config, Facts
from diffkit.core.data import DataShape, TokenWidth, VectorWidth, tokens_problem
from diffkit.core.encoder import MASK, TOKENS, VECTOR
from diffkit.core.example import Example
from diffkit.core.model import Condition, EpsilonModel
from diffkit.errors import ComponentError

if TYPE_CHECKING:
    from jaxtyping import Float

Positive = Annotated[int, Gt(0)]
_ATTENTION_AT_MOST = 16


_SMALL = {"width": 32, "multipliers": [1, 2], "blocks": 1, "groups": 8}


def _numbers(*shape: int) -> Callable[[int], Tensor]:
    """Numbers that are the same for the same sample."""
    return lambda count: torch.arange(count * prod(shape)).double().sin().reshape(count, *shape)


_CONDITIONS: Mapping[str, Callable[[int], Tensor]] = {
    VECTOR: _numbers(6),
    TOKENS: _numbers(3, 5),
    MASK: lambda count: torch.arange(3) < 1 + torch.arange(count)[:, None] % 3,
}


class UNet(EpsilonModel):
    """The U-Net of Ho et al. (2020), appendix B, after Ronneberger et al. (2015).

    Residual blocks with group normalisation, SiLU and the noise embedding; self-attention at
    chosen resolutions and in the middle; strided convolutions down, nearest-neighbour up;
    outputs start at zero. The defaults on 3x32x32 are the paper's CIFAR-10 model, 35.7 M
    parameters. It runs channels-last. Any image size works that the levels can halve.

    A condition enters in one of two ways, or both: a vector is added to the noise embedding
    (Dhariwal & Nichol, 2021, section 4, without their scale); tokens are attended to by the pixels
    after each self-attention (Rombach et al., 2022, section 3.3).

    Args:
        shape: channels, height, width; the pipeline supplies its data's.
        width: channels at full resolution.
        multipliers: the channels of each level as multiples of `width`; each level but the
            first has half the height and width of the one before.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention: the heights with self-attention. None: the largest level height up to 16.
        heads: attention heads.
        dropout: in the residual blocks, in [0, 1].
        groups: groups of each normalisation; divides the channels of every level.
        learned_variance: double the output channels; the second half places the reverse variance.
        vector: the width of the condition `vector`, None without; the pipeline supplies its
            encoder's.
        tokens: the width of the condition `tokens`, which comes with `mask`; likewise.

    Raises:
        ComponentError: the sizes do not fit together; the message says which.
    """

    def __init__(
        self,
        *,
        shape: DataShape,
        width: Positive = 128,
        multipliers: Annotated[tuple[Positive, ...], MinLen(1)] = (1, 2, 2, 2),
        blocks: Positive = 2,
        attention: tuple[Positive, ...] | None = None,
        heads: Positive = 1,
        dropout: Annotated[float, Ge(0), Le(1)] = 0.1,
        groups: Positive = 32,
        learned_variance: bool = False,
        vector: VectorWidth = None,
        tokens: TokenWidth = None,
    ) -> None:
        super().__init__()
        if problems := list(
            _incompatibilities(shape, width, multipliers, attention, heads, groups)
        ):
            raise ComponentError("unet: " + "; ".join(problems))
        heights = _level_heights(shape[1], len(multipliers))
        attended = _attended(heights, attention)
        stages = Stages(
            width=width,
            channels=[width * m for m in multipliers],
            attended=[level for level, height in enumerate(heights) if height in attended],
            blocks=blocks,
            heads=heads,
            dropout=dropout,
            groups=groups,
            tokens=tokens,
        )
        self.embed = NoiseEmbedding(width)
        if vector is not None:
            self.embed_vector = nn.Linear(vector, 4 * width)
        self.first = nn.Conv2d(shape[0], width, 3, padding=1)
        self.down, kept = stages.down()
        self.up = nn.ModuleList()  # Here, as weights are drawn in the order of registration.
        self.middle = stages.middle()
        if tokens is not None:
            (self.middle_cross_attention,) = stages.cross_attention(-1)
        self.up.extend(stages.up(kept))
        self.last_norm = norm(width * multipliers[0], groups)
        self.last = nn.Conv2d(
            width * multipliers[0], (1 + learned_variance) * shape[0], 3, padding=1
        )
        _initialise(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """`learned_variance`, and the conditions whose widths are given."""
        conditions = [VECTOR] if config.vector is not None else []
        conditions += [TOKENS, MASK] if config.tokens is not None else []
        return {"learned_variance": config.learned_variance, "conditions": tuple(conditions)}

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Numbers, and sizes that fit together."""
        yield from tokens_problem(facts)
        if config.shape is not None:
            yield from _incompatibilities(
                config.shape,
                config.width,
                config.multipliers,
                config.attention,
                config.heads,
                config.groups,
            )

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """Small, without conditions and with."""
        return [
            Example(_SMALL),
            Example({**_SMALL, "learned_variance": True}),
            Example({**_SMALL, "vector": 6, "tokens": 5}, conditions=_CONDITIONS),
        ]

    def forward(
        self, x: Float[Tensor, "b c h w"], c_noise: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c_out h w"]:
        """The output at noise level `c_noise`, for the conditions that there are widths of."""
        embedding = self.embed(c_noise)
        if VECTOR in condition:
            embedding = embedding + self.embed_vector(condition[VECTOR].to(embedding.dtype))
        hidden = self.first(x.contiguous(memory_format=torch.channels_last))
        skips = [hidden]
        for stage in self.down:
            if isinstance(stage, Downsample):
                hidden = stage(hidden)
            else:
                hidden = _through(stage, hidden, embedding, condition)
            skips.append(hidden)
        enter, attend, leave = _parts(self.middle)
        hidden = attend(enter(hidden, embedding))
        if TOKENS in condition:
            hidden = self.middle_cross_attention(hidden, condition[TOKENS], condition[MASK])
        hidden = leave(hidden, embedding)
        for stage in self.up:
            if isinstance(stage, Upsample):
                hidden = stage(hidden, skips[-1].shape[2:])
            else:
                hidden = torch.cat([hidden, skips.pop()], dim=1)
                hidden = _through(stage, hidden, embedding, condition)
        output: Tensor = self.last(silu_inplace(self.last_norm(hidden)))
        return output


def _parts(stage: nn.Module) -> list[nn.Module]:
    assert isinstance(stage, nn.ModuleList)
    return list(stage)


def _through(stage: nn.Module, hidden: Tensor, embedding: Tensor, condition: Condition) -> Tensor:
    """Through a residual block, its attention, and what looks at tokens, if anything does."""
    block, attend, *cross_attention = _parts(stage)
    hidden = attend(block(hidden, embedding))
    for look in cross_attention:
        hidden = look(hidden, condition[TOKENS], condition[MASK])
    return hidden


def _level_heights(height: int, levels: int) -> list[int]:
    return [height // 2**level for level in range(levels)]


def _attended(heights: list[int], attention: tuple[int, ...] | None) -> tuple[int, ...]:
    if attention is not None:
        return attention
    return tuple(h for h in heights if h <= _ATTENTION_AT_MOST)[:1]


def _incompatibilities(
    shape: tuple[int, ...],
    width: int,
    multipliers: tuple[int, ...],
    attention: tuple[int, ...] | None,
    heads: int,
    groups: int,
) -> Iterable[str]:
    if len(shape) != 3:
        yield f"it takes images, channels x height x width, and the data's shape is {tuple(shape)}"
        return
    levels = len(multipliers)
    if min(shape[1:]) < 2 ** (levels - 1):
        fitting = min(shape[1:]).bit_length()
        yield (
            f"{levels} levels need images of at least {2 ** (levels - 1)} pixels a side, not "
            f"{shape[1]}x{shape[2]}; give at most {fitting} multipliers"
        )
        return
    heights = _level_heights(shape[1], levels)
    for height in attention or ():
        if height not in heights:
            yield f"attention at {height}: the levels have the heights {heights}; choose from them"
    if width % 2:
        yield f"width must be even, not {width}"
    for channels in sorted({width * m for m in multipliers}):
        if channels % groups:
            yield f"groups = {groups} does not divide {channels} channels; change width or groups"
        if channels % heads:
            yield f"heads = {heads} does not divide {channels} channels; change width or heads"


def _initialise(network: UNet) -> None:
    """Fan-average uniform weights, zero biases; zero for what ends a residual branch."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv_2.weight)
        elif isinstance(module, AttentionBlock | CrossAttentionBlock):
            nn.init.zeros_(module.out.weight)
    nn.init.zeros_(network.last.weight)
