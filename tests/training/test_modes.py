"""The caller's modes do not reach a run: it is a function of its spec."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

import diffkit

UNET = {"width": 4, "groups": 2, "multipliers": [1], "blocks": 1, "attention": [], "dropout": 0.3}
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "unet", "config": UNET},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 2,
    "training": {"batch_size": 4, "warmup_steps": 0, "steps": 2},
}


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
}


def made(seed: int = 0) -> list[torch.Tensor]:
    """Weights, their average, and samples drawn with it."""
    pipeline = diffkit.build({**SPEC, "seed": seed}).train(progress=False)
    systems = (pipeline.system, pipeline.average)
    weights = [w.detach().clone() for system in systems for w in system.parameters()]
    return [*weights, pipeline.sample(2, clip=False, progress=False)]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_a_run_within_a_mode_is_the_run(mode) -> None:
    expected = made()
    with MODES[mode]():
        found = made()
    assert equal(found, expected)


def test_what_was_built_and_loaded_in_inference_mode_can_be_trained(tmp_path) -> None:
    with torch.inference_mode():
        pipeline = diffkit.build(SPEC)
        loaded = diffkit.load(pipeline.save(tmp_path / "run"))
    for each in (pipeline, loaded):
        each.train(progress=False)
    assert equal(list(pipeline.system.parameters()), list(loaded.system.parameters()))


def test_trainings_side_by_side_are_those_of_their_seeds() -> None:
    alone = [made(seed) for seed in range(3)]
    before = torch.get_rng_state()
    for _ in range(5):
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(made, range(3)))
        assert all(equal(one, other) for one, other in zip(alone, together, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
