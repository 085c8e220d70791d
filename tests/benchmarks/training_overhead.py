"""A training step around a tiny network against a hand-written loop that does the same.

    python tests/benchmarks/training_overhead.py [--json FILE]

Both read the same rows of data, draw times and noise, compute the loss of epsilon, clip the
gradient, make a step of fused AdamW, and follow with an average; the loop by hand writes its mean
loss to a file as often as diffkit its metrics.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from harness import Record, in_turn, main, ratio, verdict

import diffkit

STEPS, BATCH, LOG_EVERY = 200, 128, 50
SPEC = {
    "schedule": "linear",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 64, "depth": 2}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "training": {
        "batch_size": BATCH,
        "steps": STEPS,
        "log_every": LOG_EVERY,
        "checkpoint_every": 10**6,
        "warmup_steps": 50,
        "ema_decay": 0.999,
    },
}


def by_hand(folder: Path) -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    data = pipeline.dataset()
    model = pipeline.parts.model.train()
    average = diffkit.build(SPEC, device="cpu").parts.model.requires_grad_(False)
    weights, followed = list(model.parameters()), list(average.parameters())
    optimizer = torch.optim.AdamW(weights, lr=2e-4, weight_decay=0.0, fused=True)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - betas, 0)
    alphas, sigmas = alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()
    total = torch.zeros(())
    with (folder / "metrics.jsonl").open("w") as file:
        order = torch.randperm(len(data))
        for step in range(STEPS):
            start = step * BATCH % (len(data) - BATCH)
            x_0 = data.batch(order[start : start + BATCH].tolist()).x_0
            k = torch.randint(1000, (BATCH,))
            epsilon = torch.randn_like(x_0)
            alpha, sigma = (table[k].reshape(-1, 1, 1, 1) for table in (alphas, sigmas))
            output = model(alpha * x_0 + sigma * epsilon, k.float() + 1, {})
            loss = (output - epsilon).square().flatten(1).mean(1).mean()
            for group in optimizer.param_groups:
                group["lr"] = 2e-4 * min(1.0, (step + 1) / 51)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            torch._foreach_lerp_(followed, weights, 1.0 - min(0.999, (1 + step) / (10 + step)))
            total += loss.detach()
            if (step + 1) % LOG_EVERY == 0:
                mean = float(total) / LOG_EVERY
                file.write(json.dumps({"step": step + 1, "loss": mean}) + "\n")
                total.zero_()


def by_diffkit(folder: Path) -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    diffkit.build(SPEC, device="cpu")  # As many as by hand.
    pipeline.train(progress=False)


def measure() -> list[Record]:
    """Both in turn, on one thread."""
    torch.set_num_threads(1)
    record = Record(
        f"Training, {STEPS} updates of a tiny network",
        ("loop", "time", "time of the loop by hand against diffkit's"),
    )
    with tempfile.TemporaryDirectory() as folder:
        calls = {
            "by hand": lambda: by_hand(Path(folder)),
            "diffkit": lambda: by_diffkit(Path(folder)),
        }
        timings = in_turn(calls, 10, warmups=2)
    found = ratio(timings, "by hand", "diffkit")
    record.add("by hand", timings["by hand"], "", by_hand=list(timings["by hand"].seconds))
    target = verdict(found, round(1 / 1.05, 3))
    record.add("diffkit", timings["diffkit"], target, diffkit=list(timings["diffkit"].seconds))
    return [record]


if __name__ == "__main__":
    main(measure)
