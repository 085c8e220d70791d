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
    with _lock, torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # No torch.manual_seed: that would reseed every accelerator too.
        torch.default_generator.manual_seed(seed)
        yield
