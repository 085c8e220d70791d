"""What of the process a run depends on, read before an observer is called and put back after it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Setting:
    """One setting of the process."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


@contextlib.contextmanager
def kept() -> Iterator[list[str]]:
    """Within, settings may be changed; afterwards they are as before. Yields what was changed.

    The list is filled at the end. Generators of random numbers are put back without a word: to
    draw from them is no offence.
    """
    before = [(setting, _read(setting)) for setting in _settings()]
    changed: list[str] = []
    with _torch_modes(), _generators():
        try:
            yield changed
        finally:
            changed += [setting.name for setting, value in before if _put_back(setting, value)]


def _settings() -> Iterator[_Setting]:
    yield _Setting("the working directory", os.getcwd, os.chdir)
    yield _Setting("the umask", _umask, os.umask)
    yield _Setting("the filters of warnings", lambda: list(warnings.filters), _set_filters)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            yield _handler(number)
    if torch := sys.modules.get("torch"):
        yield from _of_torch(torch)


def _of_torch(torch: Any) -> Iterator[_Setting]:
    """The settings of torch that a result depends on, beside those of the thread."""
    yield _Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield _Setting("the default device", torch.get_default_device, torch.set_default_device)
    yield _Setting("the number of threads", torch.get_num_threads, torch.set_num_threads)
    yield _Setting(
        "deterministic algorithms",
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    )
    yield _Setting(
        "the search for anomalies",
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda value: torch.autograd.set_detect_anomaly(*value),
    )
    yield _Setting(
        "the precision of products",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    )
    for name in ("enabled", "benchmark", "deterministic", "allow_tf32"):
        yield _attribute(torch.backends.cudnn, name)
    for device in ("cpu", "cuda"):
        yield _autocast(torch, device)


def _autocast(torch: Any, device: str) -> _Setting:
    def write(value: tuple[bool, Any]) -> None:
        torch.set_autocast_enabled(device, value[0])
        torch.set_autocast_dtype(device, value[1])

    return _Setting(
        f"autocast on {device}",
        lambda: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)),
        write,
    )


def _attribute(holder: Any, name: str) -> _Setting:
    return _Setting(
        f"cudnn.{name}", lambda: getattr(holder, name), lambda value: setattr(holder, name, value)
    )


def _handler(number: signal.Signals) -> _Setting:
    def write(handler: Any) -> None:
        if handler is not None:  # That is one which Python cannot set.
            signal.signal(number, handler)

    return _Setting(f"the handler of {number.name}", lambda: signal.getsignal(number), write)


def _umask() -> int:
    """It can only be read by setting it; to one that lets nobody in meanwhile."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _read(setting: _Setting) -> Any:
    try:
        return setting.read()
    except (OSError, RuntimeError, AttributeError):
        return None  # Not to be had here, as a working directory that was deleted.


def _put_back(setting: _Setting, before: Any) -> bool:
    """Whether it had to be."""
    if before is None or _read(setting) == before:
        return False
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        setting.write(before)
    return True


@contextlib.contextmanager
def _torch_modes() -> Iterator[None]:
    """Modes of the thread: of gradients, and of inference, also where somebody never left it."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        yield
        return
    gradients = torch.is_grad_enabled()
    with torch.inference_mode(torch.is_inference_mode_enabled()), torch.set_grad_enabled(gradients):
        yield
    torch.set_grad_enabled(gradients)


@contextlib.contextmanager
def _generators() -> Iterator[None]:
    """The generators of random numbers that belong to nobody."""
    python = random.getstate()
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    arrays = None if numpy is None else numpy.random.get_state()
    tensors = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(arrays)
        if torch is not None:
            torch.set_rng_state(tensors)
