"""An observer can neither end nor alter a run, whatever it raises, returns or changes."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import diffkit
from diffkit.plugins import surroundings
from diffkit.plugins.events import Events
from diffkit.plugins.hookspecs import RunInfo, hookimpl


class Run:
    directory: Path | None = None
    spec: Mapping[str, Any] = MappingProxyType({"training": {"steps": 8}})


class Calls:
    """An observer whose steps call a function."""

    def __init__(self, function: Callable[[dict[str, Any]], object]) -> None:
        self._function = function

    @hookimpl
    def diffkit_step(self, run: RunInfo, step: int, metrics: dict[str, float]) -> Any:
        return self._function({"run": run, "step": step, "metrics": metrics})


class Wordless(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class Bytes(Exception):
    def __str__(self) -> str:
        return b"x"  # type: ignore[return-value]


@pytest.mark.parametrize(
    "error",
    [
        GeneratorExit(),
        asyncio.CancelledError(),
        BaseException("x"),
        BaseExceptionGroup("g", [asyncio.CancelledError()]),
        Wordless(),
        Bytes(),
        SystemExit(0),
        pytest.skip.Exception("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_is_raised_ends_the_observer_alone(error: BaseException) -> None:
    heard: list[int] = []

    def fail(_: object) -> None:
        raise error

    events = Events([], [Calls(fail), Calls(lambda told: heard.append(told["step"]))])
    events.step(Run(), 1, {})
    events.step(Run(), 2, {})
    assert heard == [1, 2]
    assert len(events.failures) == 1
    assert type(error).__name__ in events.failures[0]


def test_ctrl_c_in_a_hook_says_where_it_came() -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        Events([], [Calls(interrupt)]).step(Run(), 1, {})
    assert "diffkit_step of plugin 'observer-0'" in caught.value.__notes__[0]


def test_each_observer_changes_a_copy() -> None:
    metrics, samples = {"loss": 1.0}, torch.ones(2, 3)
    seen: list[Any] = []

    class Greedy:
        @hookimpl
        def diffkit_step(self, run: RunInfo, metrics: dict[str, float]) -> None:
            seen.append((metrics.pop("loss"), run.spec["training"]["steps"]))
            run.spec["training"]["steps"] = 1

        @hookimpl
        def diffkit_sample(self, samples: torch.Tensor) -> None:
            seen.append(samples.sum().item())
            samples.zero_()

    events = Events([], [Greedy(), Greedy()])
    events.step(Run(), 1, metrics)
    events.sample(Run(), samples)
    assert seen == [(1.0, 8), (1.0, 8), 6.0, 6.0]
    assert metrics == {"loss": 1.0}
    assert torch.equal(samples, torch.ones(2, 3))
    assert Run.spec == {"training": {"steps": 8}}
    assert events.failures == ()


async def coroutine() -> None: ...


def generator() -> Any:
    yield


async def both() -> Any:
    yield


@pytest.mark.parametrize(
    ("function", "kind"),
    [(coroutine, "coroutine"), (generator, "generator"), (both, "asynchronous generator")],
)
@pytest.mark.filterwarnings("error")
def test_functions_that_never_run_are_refused_by_name(
    function: Callable[[], Any], kind: str
) -> None:
    module = ModuleType("acme")
    module.diffkit_step = hookimpl(function)  # type: ignore[attr-defined]
    events = Events([("acme:watch", module)])
    assert len(events.failures) == 1
    assert events.failures[0].startswith(
        f"acme:watch: its diffkit_step is a{'n' * (kind[0] == 'a')}"
    )
    assert kind in events.failures[0]
    # A decorator may hide what it is until it is called.
    hidden = Events([], [Calls(lambda _: function())])
    hidden.step(Run(), 1, {})
    assert "so that none of it ran" in hidden.failures[0]


def test_what_is_called_like_a_hook_and_is_not_marked_is_refused_by_name() -> None:
    class Forgotten:
        def diffkit_step(self) -> None: ...

    (failure,) = Events([], [Forgotten()]).failures
    assert "diffkit_step is not marked" in failure
    assert "@diffkit.hookimpl" in failure


_ENTERED: list[torch.inference_mode] = []


def _leave_inference_mode_on(_: object) -> None:
    # Kept, or it would be left as the object goes.
    _ENTERED.append(torch.inference_mode())
    _ENTERED[-1].__enter__()


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "gradients": lambda _: torch.set_grad_enabled(False),
    "inference": _leave_inference_mode_on,
    "dtype": lambda _: torch.set_default_dtype(torch.float64),
    "device": lambda _: torch.set_default_device("meta"),
    "deterministic": lambda _: torch.use_deterministic_algorithms(True),
    "autocast": lambda _: torch.autocast("cpu").__enter__(),
    "anomalies": lambda _: torch.autograd.set_detect_anomaly(True),
    "python": lambda _: random.seed(0),
    "numpy": lambda _: np.random.seed(0),
    "torch": lambda _: torch.manual_seed(0),
    "directory": lambda _: os.chdir("/"),
    "umask": lambda _: os.umask(0o777),
    "warnings": lambda _: warnings.simplefilter("error"),
    "signal": lambda _: signal.signal(signal.SIGTERM, signal.SIG_IGN),
}


def _state() -> tuple[Any, ...]:
    settings = [(s.name, s.read()) for s in surroundings._settings()]
    generators = (random.random(), np.random.rand(), torch.rand(()).item())
    return settings, generators, torch.is_grad_enabled(), torch.is_inference_mode_enabled()


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_hook_changes_of_the_process_is_put_back(change: str) -> None:
    def seeded() -> None:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    seeded()
    before = _state()
    seeded()
    Events([], [Calls(CHANGES[change])]).step(Run(), 1, {})
    assert _state() == before


def test_a_setting_that_is_changed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        Events([], [Calls(CHANGES["dtype"])]).step(Run(), 1, {})
    assert "'observer-0' changed the default dtype" in caplog.text


def test_a_signal_noted_within_a_hook_stays_noted() -> None:
    from diffkit.helpers.interruption import requests_noted

    with requests_noted() as request:
        Events([], [Calls(lambda _: signal.raise_signal(signal.SIGINT))]).step(Run(), 1, {})
        assert request.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


SPEC = {
    "schedule": {"id": "diffkit.cosine", "config": {"steps": 20}},
    "process": "diffkit.variance-preserving",
    "model": {"id": "diffkit.mlp", "config": {"width": 16, "depth": 1}},
    "loss": "diffkit.simple",
    "sampler": "diffkit.ddpm",
    "data": {"shape": [1, 8, 8], "range": [-1, 1]},
    "dataset": "diffkit.digits",
    "training": {"batch_size": 16, "log_every": 2, "steps": 4},
}


def test_a_run_is_the_same_with_the_worst_of_observers() -> None:
    alone = diffkit.build(SPEC).train(progress=False)
    watched = diffkit.build(SPEC)
    watched.train(progress=False, observers=[Calls(change) for change in CHANGES.values()])
    for one, other in zip(alone.system.parameters(), watched.system.parameters(), strict=True):
        assert torch.equal(one, other)


def test_samples_are_the_same_with_an_observer_that_writes_to_them() -> None:
    class Show:
        @hookimpl
        def diffkit_sample(self, samples: torch.Tensor) -> None:
            samples.add_(1).div_(2).clamp_(0, 1)

    pipeline = diffkit.build(SPEC)
    alone = pipeline.sample(2, progress=False)
    assert torch.equal(pipeline.sample(2, progress=False, observers=[Show()]), alone)
