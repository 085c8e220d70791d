"""bfloat16 changes samples, and not how good they are."""

from __future__ import annotations

import pytest

import diffkit


@pytest.mark.slow
def test_samples_in_bfloat16_are_as_good() -> None:
    pytest.importorskip("sklearn")
    pipeline = diffkit.build(
        {
            "schedule": "cosine",
            "process": "variance-preserving",
            "model": {
                "id": "unet",
                "config": {"width": 32, "multipliers": [1, 2], "blocks": 1, "groups": 8},
            },
            "loss": "simple",
            "sampler": "ddpm",
            "dataset": "digits",
            "steps": 20,
            "metric": {"id": "frechet", "config": {"max_samples": 256}},
        },
        device="cpu",
    )
    pipeline.train(steps=150, batch_size=48, learning_rate=1e-3, ema_decay=0.99, progress=False)
    ratios = {
        precision: pipeline.evaluate(
            pipeline.sample(256, precision=precision, batch_size=128, progress=False)
        )["frechet_ratio"]
        for precision in ("float32", "bfloat16")
    }
    # The same noise, so that what is left is rounding; other noise moves the ratio by more.
    assert abs(ratios["bfloat16"] - ratios["float32"]) <= 0.05 * ratios["float32"], ratios
