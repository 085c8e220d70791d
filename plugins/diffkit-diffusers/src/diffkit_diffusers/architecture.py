"""The configuration of diffusers' UNet2DModel against that of diffkit's `unet`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diffkit_diffusers.folder import header, is_one_of
from diffkit_diffusers.weights import Layout

_NEEDED: Mapping[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "freq_shift": (1, 1.0),
    "flip_sin_to_cos": (False, True),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1, 1.0),
    "downsample_padding": (0,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "norm_eps": (1e-6,),
    "resnet_time_scale_shift": ("default",),
    "add_attention": (True,),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
}
"""The values with which the outputs are those of diffkit's `unet`."""
_FREE = (
    "sample_size",
    "in_channels",
    "out_channels",
    "time_embedding_dim",
    "down_block_types",
    "up_block_types",
    "block_out_channels",
    "layers_per_block",
    "dropout",
    "attention_head_dim",
    "norm_num_groups",
    "attn_norm_num_groups",
    "num_train_timesteps",  # Read for a learned embedding only.
)
_ATTENTION = {
    "DownBlock2D": False,
    "AttnDownBlock2D": True,
    "UpBlock2D": False,
    "AttnUpBlock2D": True,
}


@dataclass(frozen=True)
class Imported:
    """A UNet2DModel as diffkit's `unet`."""

    config: Mapping[str, Any]
    shape: tuple[int, int, int]
    layout: Layout
    cosines_first: bool


def import_problems(config: Mapping[str, Any]) -> list[str]:
    """What diffkit's `unet` cannot express of a UNet2DModel, each key with its value."""
    problems = [
        f"{key} = {config[key]!r} (it must be {' or '.join(map(repr, dict.fromkeys(allowed)))})"
        for key, allowed in _NEEDED.items()
        if not is_one_of(config.get(key), allowed)
    ]
    unknown = [key for key in config if key not in _NEEDED and key not in _FREE]
    problems += [f"{key} = {config[key]!r} (an unknown key)" for key in unknown]
    malformed = list(_malformed(config))
    return [*problems, *(malformed or _incompatibilities(config))]


def imported(config: Mapping[str, Any]) -> Imported:
    """The `unet` that gives the outputs of this UNet2DModel, which has no `import_problems`."""
    channels = [int(c) for c in config["block_out_channels"]]
    height, width = _size(config["sample_size"])
    attended = [_ATTENTION[name] for name in config["down_block_types"]]
    per_head = config["attention_head_dim"]
    unet = {
        "width": channels[0],
        "multipliers": [c // channels[0] for c in channels],
        "blocks": config["layers_per_block"],
        "attention": [height // 2**level for level, has in enumerate(attended) if has],
        "heads": 1 if per_head is None else channels[-1] // per_head,
        "dropout": float(config["dropout"]),
        "groups": config["norm_num_groups"],
    }
    layout = Layout(len(channels), config["layers_per_block"], attended)
    shape = (config["in_channels"], height, width)
    return Imported(unet, shape, layout, config["flip_sin_to_cos"] is True)


def layout_of(config: Mapping[str, Any], weights: Iterable[str]) -> Layout:
    """The layout of diffkit's `unet` with this configuration and weights of these names."""
    levels, blocks, names = len(config["multipliers"]), config["blocks"], set(weights)
    first = [level * (blocks + 1) for level in range(levels)]
    attended = [f"down.{place}.1.norm.weight" in names for place in first]
    return Layout(levels, blocks, attended)


def export_problems(
    config: Mapping[str, Any], shape: tuple[int, ...], layout: Layout
) -> Iterable[str]:
    """What diffusers' UNet2DModel cannot express of diffkit's `unet`."""
    width, multipliers, heads = config["width"], config["multipliers"], config["heads"]
    if config["learned_variance"]:
        yield "model.learned_variance = True (the networks that are exported give no variance)"
    if width < 4:
        yield f"model.width = {width} (diffusers divides by zero below 4)"
    if multipliers[0] != 1:
        yield f"model.multipliers = {list(multipliers)} (the first must be 1)"
    halved = 2 ** (layout.levels - 1)
    if any(side % halved for side in shape[1:]):
        yield f"data.shape = {list(shape)} (height and width must be multiples of {halved})"
    attending = {m for m, has in zip(multipliers, layout.attended, strict=True) if has}
    attending.add(multipliers[-1])
    if heads != 1 and len(attending) > 1:
        yield (
            f"model.heads = {heads} (with more than one head, all levels with attention and the "
            "last must have equal channels, as diffusers fixes the channels of a head)"
        )


def exported(config: Mapping[str, Any], shape: tuple[int, ...], layout: Layout) -> dict[str, Any]:
    """The configuration of the UNet2DModel, where there are no `export_problems`."""
    channels = [config["width"] * m for m in config["multipliers"]]
    heads = config["heads"]
    down = ["AttnDownBlock2D" if has else "DownBlock2D" for has in layout.attended]
    up = ["AttnUpBlock2D" if has else "UpBlock2D" for has in reversed(layout.attended)]
    return {
        **header("UNet2DModel"),
        **{key: allowed[0] for key, allowed in _NEEDED.items()},
        "sample_size": shape[1] if shape[1] == shape[2] else list(shape[1:]),
        "in_channels": shape[0],
        "out_channels": shape[0],
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": channels,
        "layers_per_block": config["blocks"],
        "dropout": config["dropout"],
        "attention_head_dim": None if heads == 1 else channels[-1] // heads,
        "norm_num_groups": config["groups"],
    }


def _malformed(config: Mapping[str, Any]) -> Iterable[str]:
    """Values that are not what diffusers itself would take."""
    for key in ("in_channels", "out_channels", "layers_per_block", "norm_num_groups"):
        if not _positive(config[key]):
            yield f"{key} = {config[key]!r} (it must be a positive number)"
    sizes = config["sample_size"]
    if not _positive(sizes) and not (_positives(sizes) and len(sizes) == 2):
        yield f"sample_size = {sizes!r} (it must say the height and width)"
    if not _positives(config["block_out_channels"]):
        yield f"block_out_channels = {config['block_out_channels']!r} (it must list channels)"
    per_head = config["attention_head_dim"]
    if per_head is not None and not _positive(per_head):
        yield f"attention_head_dim = {per_head!r} (it must be null or positive)"
    dropout = config["dropout"]
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
        yield f"dropout = {dropout!r} (it must be in [0, 1])"
    for side, key in (("Down", "down_block_types"), ("Up", "up_block_types")):
        known = [name for name in _ATTENTION if side in name]
        names = config[key]
        listed = isinstance(names, list | tuple)
        if not listed or not all(isinstance(n, str) and n in known for n in names):
            yield f"{key} = {names!r} (each must be {' or '.join(known)})"


def _incompatibilities(config: Mapping[str, Any]) -> Iterable[str]:
    """Values that do not fit each other, in diffusers or in diffkit."""
    channels = config["block_out_channels"]
    down = [_ATTENTION[name] for name in config["down_block_types"]]
    up = [_ATTENTION[name] for name in config["up_block_types"]]
    if not len(channels) == len(down) == len(up):
        yield f"block_out_channels = {channels!r} (as many as there are blocks)"
        return
    if up != down[::-1]:
        yield f"up_block_types = {config['up_block_types']!r} (attention as in down_block_types)"
    if config["in_channels"] != config["out_channels"]:
        yield f"out_channels = {config['out_channels']!r} (it must equal in_channels)"
    if any(c % channels[0] for c in channels) or channels[0] < 4:
        yield f"block_out_channels = {channels!r} (multiples of the first, which is at least 4)"
    if config["time_embedding_dim"] not in (None, 4 * channels[0]):
        yield (
            f"time_embedding_dim = {config['time_embedding_dim']!r} "
            f"(it must be {4 * channels[0]}, or null)"
        )
    if config["attn_norm_num_groups"] not in (None, config["norm_num_groups"]):
        yield (
            f"attn_norm_num_groups = {config['attn_norm_num_groups']!r} "
            "(it must equal norm_num_groups, or be null)"
        )
    size, halved = _size(config["sample_size"]), 2 ** (len(channels) - 1)
    if any(side % halved for side in size):
        yield f"sample_size = {config['sample_size']!r} (it must be a multiple of {halved})"
    yield from _uneven_heads(config, down)


def _uneven_heads(config: Mapping[str, Any], attended: list[bool]) -> Iterable[str]:
    channels, per_head = config["block_out_channels"], config["attention_head_dim"]
    if per_head is None:
        return
    attending = {c for c, has in zip(channels, attended, strict=True) if has} | {channels[-1]}
    if len(attending) > 1 or channels[-1] % per_head:
        yield (
            f"attention_head_dim = {per_head!r} (it must divide the channels, and give the same "
            f"number of heads wherever there is attention, here at {sorted(attending)} channels)"
        )


def _size(sample_size: Any) -> tuple[int, int]:
    if isinstance(sample_size, int):
        return sample_size, sample_size
    height, width = sample_size
    return int(height), int(width)


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _positives(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_positive, value))
