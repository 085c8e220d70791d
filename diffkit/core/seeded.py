"""The process's generator, which layers draw their first weights from, for one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, what this thread draws on the host is a function of the seed; then all is as before.

    Other threads that want the same wait, so that builds side by side are those of their seeds. New
    tensors are on the host, whatever device is set as the default.
    """
    with _lock, torch.random.fork_rng(devices=[]), torch.device("cpu"), _float32():
        # No torch.manual_seed: that would reseed every accelerator too.
        torch.default_generator.manual_seed(seed)
        # Tensors of inference mode could never be trained.
        with torch.inference_mode(False):
            yield


@contextmanager
def sole_use() -> Iterator[None]:
    """Within, nobody else who asks here uses the process's generator."""
    with _lock:
        yield


@contextmanager
def _float32() -> Iterator[None]:
    """Weights are float32, as data and times are, whatever the caller's default is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
