"""The weights of diffkit's U-Net under diffusers' names, and the shift of one index.

diffusers counts noise levels from 0 and diffkit from 1, so the same network is asked at k - 1 by
the one and at k by the other. The difference is a rotation in each (sine, cosine) pair of the
noise embedding, and so it goes into the weights of the layer behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from diffkit.errors import CheckpointError
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

EMBEDDING = "embed.layers.0.weight"
"""The first weights behind the sinusoids, `[4 width, width]`, sines first."""

_RESIDUAL = {
    "norm_1": "norm1",
    "conv_1": "conv1",
    "embed": "time_emb_proj",
    "norm_2": "norm2",
    "conv_2": "conv2",
    "skip": "conv_shortcut",
}
_ATTENTION = {
    "norm": ("group_norm",),
    "query_key_value": ("to_q", "to_k", "to_v"),
    "out": ("to_out.0",),
}
_OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""What attention was called in folders that early versions of diffusers wrote."""


@dataclass(frozen=True)
class Layout:
    """What decides which weights a U-Net has, beside their sizes."""

    levels: int
    blocks: int
    """Residual blocks a level on the way down."""
    attended: Sequence[bool]
    """Which levels have self-attention."""


def modules(layout: Layout) -> dict[str, tuple[str, ...]]:
    """The modules of diffkit's U-Net, each with those of diffusers that it is made of, in order.

    `skip` is listed for every residual block, though some have none.
    """
    found: dict[str, tuple[str, ...]] = {
        "embed.layers.0": ("time_embedding.linear_1",),
        "embed.layers.2": ("time_embedding.linear_2",),
        "first": ("conv_in",),
        "last_norm": ("conv_norm_out",),
        "last": ("conv_out",),
        **_residual("middle.0", "mid_block.resnets.0"),
        **_attention("middle.1", "mid_block.attentions.0"),
        **_residual("middle.2", "mid_block.resnets.1"),
    }
    place = 0
    for level in range(layout.levels):
        if level:
            found[f"down.{place}.conv"] = (f"down_blocks.{level - 1}.downsamplers.0.conv",)
            place += 1
        found.update(_level(layout, level, f"down_blocks.{level}", "down", place, layout.blocks))
        place += layout.blocks
    place = 0
    for theirs, level in enumerate(reversed(range(layout.levels))):
        found.update(_level(layout, level, f"up_blocks.{theirs}", "up", place, layout.blocks + 1))
        place += layout.blocks + 1
        if level:
            found[f"up.{place}.conv"] = (f"up_blocks.{theirs}.upsamplers.0.conv",)
            place += 1
    return found


def from_diffusers(
    theirs: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout
) -> dict[str, Tensor]:
    """The weights of diffkit's U-Net; `wanted` has their names and shapes.

    Raises:
        CheckpointError: a weight is missing, left over, or of another shape; names it.
    """
    named = {modern(name): tensor for name, tensor in theirs.items()}
    made: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, sources in _tensors(wanted, layout).items():
        missing = [source for source in sources if source not in named]
        if missing:
            raise CheckpointError(f"diffusers' weights lack {', '.join(missing)}")
        made[name] = torch.cat([named[source].to(torch.float32) for source in sources])
        used.update(sources)
        if made[name].shape != wanted[name].shape:
            raise CheckpointError(
                f"diffusers' weight {sources[0]} has the shape {list(made[name].shape)}, and "
                f"{list(wanted[name].shape)} follows from config.json"
            )
    extra = sorted(named.keys() - used)
    if extra:
        raise CheckpointError(
            f"diffusers' weights hold {extra[0]} (and {len(extra) - 1} others), which do not "
            "follow from config.json"
        )
    return made


def to_diffusers(ours: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """The same weights under diffusers' names, in float32 on the host."""
    made = {}
    for name, sources in _tensors(ours, layout).items():
        whole = ours[name].detach().to("cpu", torch.float32)
        for source, part in zip(sources, whole.chunk(len(sources)), strict=True):
            made[source] = part.contiguous().clone()
    return made


def swapped_halves(weight: Float[Tensor, "out width"]) -> Float[Tensor, "out width"]:
    """The weights for sines first from those for cosines first, or back."""
    return weight.roll(weight.shape[1] // 2, dims=1)


def shifted(weight: Float[Tensor, "out width"], by: int) -> Float[Tensor, "out width"]:
    """The weights that say at c what `weight` says at `c - by`.

    With `w` a frequency and `a = by w`, `sin(wc - a) = sin(wc) cos a - cos(wc) sin a` and
    `cos(wc - a) = cos(wc) cos a + sin(wc) sin a`, so

        sine' = sine cos a + cosine sin a,   cosine' = cosine cos a - sine sin a

    which is exact; computed in float64 at the frequencies of the bundled embedding.
    """
    half = weight.shape[1] // 2
    angle = by * _frequencies(half)
    sine, cosine = weight.to(torch.float64).chunk(2, dim=1)
    turned = (
        sine * angle.cos() + cosine * angle.sin(),
        cosine * angle.cos() - sine * angle.sin(),
    )
    return torch.cat(turned, dim=1).to(weight.dtype)


def _frequencies(half: int) -> Float[Tensor, " half"]:
    exponents = torch.arange(half, dtype=torch.float64) / max(half - 1, 1)
    return torch.exp(-math.log(10_000.0) * exponents)


def _tensors(ours: Mapping[str, Tensor], layout: Layout) -> dict[str, tuple[str, ...]]:
    """Each weight of ours with its parts in diffusers."""
    parts = {}
    known = modules(layout)
    for name in ours:
        module, _, leaf = name.rpartition(".")
        parts[name] = tuple(f"{source}.{leaf}" for source in known[module])
    return parts


def _level(
    layout: Layout, level: int, theirs: str, side: str, place: int, blocks: int
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for block in range(blocks):
        ours = f"{side}.{place + block}"
        found.update(_residual(f"{ours}.0", f"{theirs}.resnets.{block}"))
        if layout.attended[level]:
            found.update(_attention(f"{ours}.1", f"{theirs}.attentions.{block}"))
    return found


def _residual(ours: str, theirs: str) -> dict[str, tuple[str, ...]]:
    return {f"{ours}.{mine}": (f"{theirs}.{yours}",) for mine, yours in _RESIDUAL.items()}


def _attention(ours: str, theirs: str) -> dict[str, tuple[str, ...]]:
    return {
        f"{ours}.{mine}": tuple(f"{theirs}.{part}" for part in parts)
        for mine, parts in _ATTENTION.items()
    }


def modern(name: str) -> str:
    """Today's name of a weight, which early versions of diffusers may have called otherwise."""
    if ".attentions." not in name:
        return name
    module, _, leaf = name.rpartition(".")
    for new, old in _OLD_NAMES.items():
        if module.endswith(f".{old}"):
            return f"{module.removesuffix(old)}{new}.{leaf}"
    return name
