"""A training step of DDPM's CIFAR-10 U-Net, batch 16, against diffusers' network in a loop by hand.

    python tests/benchmarks/train_step.py [--json FILE]

Both noise the same images, compute the loss of epsilon, clip the gradient, make a step of fused
AdamW and follow with an average. The loop by hand takes diffusers' network and scheduler.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import DDPMScheduler
from harness import Record, device, in_reach, in_turn, limits, main, ratio, verdict
from peers import FLOP_PER_IMAGE, same_network

import diffkit
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.distributed.world import SingleProcess
from diffkit.training.train_step import TrainStep

BATCH = 16
TARGETS = {
    "float32": {"diffusers float32": 1.15},
    "bfloat16": {"diffusers float32": 1.85},
}


class Images(Dataset):
    """Random images, as many as a small epoch."""

    def __init__(self) -> None:
        self._images = torch.randn(256, 3, 32, 32).clamp(-1, 1)

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, 32, 32)

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, indices) -> Batch:
        return Batch(self._images[torch.as_tensor(indices)])


def by_diffkit(precision: str, where: torch.device) -> Callable[[], object]:
    spec = {
        "schedule": "linear",
        "process": "variance-preserving",
        "model": "unet",
        "loss": "simple",
        "sampler": "ddpm",
        "data": {"shape": [3, 32, 32], "range": [-1, 1]},
        "precision": precision,
    }
    pipeline = diffkit.build({**spec, "training": {"batch_size": BATCH}}, device=where)
    average = diffkit.build(spec, device=where).system.requires_grad_(False)
    pipeline.system.train()
    updates = TrainStep(
        system=pipeline.system,
        average=average,
        dataset=Images(),
        spec=pipeline.spec.training,
        seed=0,
        world=SingleProcess(),
    )
    step = 0

    def make():
        nonlocal step
        step += 1
        return updates.make(step)

    return make


def by_diffusers(half: bool, where: torch.device) -> Callable[[], object]:
    model, _ = same_network(where)
    average, _ = same_network(where)
    model.train()
    weights, followed = list(model.parameters()), list(average.requires_grad_(False).parameters())
    optimizer = torch.optim.AdamW(weights, lr=2e-4, weight_decay=0.0, fused=True)
    scheduler, data = DDPMScheduler(), Images()

    def make():
        x_0 = data.batch(torch.randint(len(data), (BATCH,)).tolist()).x_0.to(where)
        t = torch.randint(1000, (BATCH,), device=where)
        epsilon = torch.randn_like(x_0)
        noisy = scheduler.add_noise(x_0, epsilon, t)
        with torch.autocast(where.type, torch.bfloat16, enabled=half):
            output = model(noisy, t).sample
        loss = torch.nn.functional.mse_loss(output.float(), epsilon)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        torch._foreach_lerp_(followed, weights, 0.001)
        return loss

    return make


def measure() -> list[Record]:
    """Both libraries in both precisions, in turn."""
    where = device()
    calls = {
        "diffusers float32": by_diffusers(False, where),
        "diffusers bfloat16": by_diffusers(True, where),
        "diffkit float32": by_diffkit("float32", where),
        "diffkit bfloat16": by_diffkit("bfloat16", where),
    }
    timings = in_turn(in_reach(calls), 7)
    record = Record(
        f"Training step, batch {BATCH}",
        ("contestant", "time", "of the convolution peak", "against diffusers"),
    )
    peak = limits()
    for name, timing in timings.items():
        precision = name.split()[1]
        # Backward is twice the work of forward.
        speed = 3 * BATCH * FLOP_PER_IMAGE / timing.median / 1e9
        targets = TARGETS[precision] if name.startswith("diffkit") else {}
        said = [
            f"{peer}: {verdict(ratio(timings, peer, name), target)}"
            for peer, target in targets.items()
            if peer in timings
        ]
        if name.startswith("diffkit"):
            beside = ratio(timings, f"diffusers {precision}", name)
            said.append(f"diffusers {precision}: {beside:.2f}x")
        share = f"{speed / peak[f'conv {precision}']:.0%}"
        record.add(name, timing, share, "; ".join(dict.fromkeys(said)))
        record.figures[name] = list(timing.seconds)
    return [record]


if __name__ == "__main__":
    main(measure)
