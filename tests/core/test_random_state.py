"""Weights are those of their seed, whoever else builds meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from diffkit.core.random_state import seeded


def _weights(seed: int) -> Tensor:
    with seeded(seed):
        return torch.cat([nn.Linear(32, 32).weight.detach() for _ in range(8)])


def test_threads_get_the_weights_of_their_seeds() -> None:
    alone = [_weights(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = [pool.map(_weights, range(8)) for _ in range(5)]
        for found in together:
            assert all(torch.equal(a, b) for a, b in zip(alone, found, strict=True))


def test_nothing_is_left_of_it() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    _weights(7)
    assert torch.equal(torch.rand(4), expected)


def test_a_default_device_does_not_matter() -> None:
    expected = _weights(1)
    torch.set_default_device("meta")
    try:
        assert torch.equal(_weights(1), expected)
    finally:
        torch.set_default_device(None)
