"""The process's generator, which layers draw their first weights from, for one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_lock = threading.RLock()
_within: dict[str, int] = {}
_before: dict[str, torch.Tensor] = {}


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
def generators_restored(device: torch.device) -> Iterator[None]:
    """What the process's generators of the host and of this device were before the first thread
    came here, they are after the last has gone.

    `torch.random.fork_rng` in each thread would restore them in the middle of another's draws.
    """
    with _lock:
        _save("cpu", torch.get_rng_state)
        if device.type == "cuda":
            _save(str(device), lambda: torch.cuda.get_rng_state(device))
    try:
        yield
    finally:
        with _lock:
            _restore("cpu", torch.set_rng_state)
            if device.type == "cuda":
                _restore(str(device), lambda state: torch.cuda.set_rng_state(state, device))


def _save(name: str, read: Callable[[], torch.Tensor]) -> None:
    if not _within.get(name):
        _before[name] = read()
    _within[name] = _within.get(name, 0) + 1


def _restore(name: str, write: Callable[[torch.Tensor], None]) -> None:
    _within[name] -= 1
    if not _within[name]:
        write(_before.pop(name))


@contextmanager
def _float32() -> Iterator[None]:
    """Weights are float32, as data and times are, whatever the caller's default is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
