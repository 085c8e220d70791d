"""The U-Net's forward pass against diffusers', same weights.

python tests/benchmarks/unet_forward.py [--json FILE]
"""

from __future__ import annotations

import torch
from harness import Record, device, in_reach, in_turn, limits, main, ratio, verdict
from peers import FLOP_PER_IMAGE, same_network

from diffkit.assembly.network import for_sampling

TARGETS = {
    ("float32", 16): {"diffusers float32": 1.2},
    ("float32", 1): {"diffusers float32": 1.4},
    ("bfloat16", 16): {"diffusers float32": 2.1, "diffusers bfloat16": 1.15},
    ("bfloat16", 1): {"diffusers float32": 2.1, "diffusers bfloat16": 1.15},
}


def measure() -> list[Record]:
    """Every batch size and precision, all contestants in turn."""
    where = device()
    theirs, pipeline = same_network(where)
    model = pipeline.parts.model
    networks = {p: for_sampling(model, p, "off", where) for p in ("float32", "bfloat16")}
    record = Record(
        "U-Net forward",
        ("batch", "contestant", "time", "of the convolution peak", "against diffusers"),
    )
    for batch in (16, 1):
        x = torch.randn(batch, 3, 32, 32, device=where)
        index = torch.full((batch,), 500, device=where)
        c_noise = torch.full((batch,), 501.0, device=where)

        def by_diffusers(half: bool, x=x, index=index):
            with torch.no_grad(), torch.autocast(where.type, torch.bfloat16, enabled=half):
                return theirs(x, index).sample

        def by_diffkit(precision: str, x=x, c_noise=c_noise):
            with torch.no_grad():
                return networks[precision](x, c_noise, {})

        apart = (by_diffusers(False) - by_diffkit("float32")).abs().max().item()
        assert apart <= 1e-4, apart
        calls = {
            "diffusers float32": lambda: by_diffusers(False),
            "diffusers bfloat16": lambda: by_diffusers(True),
            "diffkit float32": lambda: by_diffkit("float32"),
            "diffkit bfloat16": lambda: by_diffkit("bfloat16"),
        }
        timings = in_turn(in_reach(calls), 15 if batch > 1 else 40)
        peak = limits()
        for name, timing in timings.items():
            precision = name.split()[1]
            speed = batch * FLOP_PER_IMAGE / timing.median / 1e9
            share = f"{speed / peak[f'conv {precision}']:.0%}"
            targets = TARGETS[precision, batch] if name.startswith("diffkit") else {}
            said = "; ".join(
                f"{peer}: {verdict(ratio(timings, peer, name), target)}"
                for peer, target in targets.items()
                if peer in timings
            )
            record.add(batch, name, timing, share, said)
            record.figures[f"{name} b{batch}"] = list(timing.seconds)
    return [record]


if __name__ == "__main__":
    main(measure)
