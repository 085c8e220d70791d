from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from diffkit.plugins import events as events_module
from diffkit.plugins import hookspecs
from diffkit.plugins.events import Events
from diffkit.plugins.hookspecs import RunInfo, hookimpl

from .fake_distributions import HOOKS, Site


class Run:
    directory: Path | None = None
    spec: Mapping[str, Any] = MappingProxyType({})


class Recorder:
    """Notes everything it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    @hookimpl
    def diffkit_run_start(self, run: RunInfo) -> None:
        self.heard.append(("start", run.spec))

    @hookimpl
    def diffkit_step(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        self.heard.append(("step", run.spec, step, metrics))

    @hookimpl
    def diffkit_checkpoint(self, run: RunInfo, step: int, path: Path) -> None:
        self.heard.append(("checkpoint", run.spec, step, path))

    @hookimpl
    def diffkit_sample(self, run: RunInfo, samples: torch.Tensor) -> None:
        self.heard.append(("sample", run.spec, samples.tolist()))

    @hookimpl
    def diffkit_run_end(self, run: RunInfo, step: int) -> None:
        self.heard.append(("end", run.spec, step))


class Broken:
    def __init__(self, error: BaseException) -> None:
        self.error, self.calls = error, 0

    @hookimpl
    def diffkit_step(self) -> None:
        self.calls += 1
        raise self.error

    @hookimpl
    def diffkit_run_end(self) -> None:
        self.calls += 1


def tell_everything(events: Events, run: RunInfo) -> list[tuple[Any, ...]]:
    metrics, path, samples = {"loss": 0.5}, Path("step-3"), torch.zeros(2, 1)
    events.run_start(run)
    events.step(run, 3, metrics)
    events.checkpoint(run, 4, path)
    events.sample(run, samples)
    events.run_end(run, 5)
    return [
        ("start", run.spec),
        ("step", run.spec, 3, metrics),
        ("checkpoint", run.spec, 4, path),
        ("sample", run.spec, samples.tolist()),
        ("end", run.spec, 5),
    ]


def test_every_observer_hears_every_event() -> None:
    one, two = Recorder(), Recorder()
    events = Events([("acme:watch", one)], [two])
    told = tell_everything(events, Run())
    assert one.heard == told
    assert two.heard == told
    assert events.failures == ()


def test_there_is_a_method_for_every_hook_of_a_run() -> None:
    hooks = {n.removeprefix("diffkit_") for n in vars(hookspecs) if n.startswith("diffkit_")}
    methods = {name for name in vars(Events) if not name.startswith("_")}
    assert methods - {"failures"} == hooks - {"register"}


@pytest.mark.parametrize(
    ("error", "cause"),
    [(ValueError("no\ncard"), "ValueError: no card"), (SystemExit(3), "SystemExit: 3")],
)
def test_an_observer_that_raises_is_left_out_and_the_run_goes_on(
    error: BaseException, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, broken, last = Recorder(), Broken(error), Recorder()
    events = Events([("acme:watch", broken)], [first, last])
    run = Run()
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        for step in range(3):
            events.step(run, step, {})
        events.run_end(run, 3)
    assert broken.calls == 1
    assert [event[0] for event in first.heard] == ["step", "step", "step", "end"]
    assert last.heard == first.heard
    assert events.failures == (f"acme:watch: diffkit_step raised {cause}",)
    (record,) = caplog.records
    assert record.name == "diffkit"
    assert record.levelno == logging.WARNING
    assert "'acme:watch'" in record.getMessage()
    assert cause in record.getMessage()


def test_observers_are_named_by_their_position() -> None:
    events = Events([], [Recorder(), Broken(ValueError())])
    events.step(Run(), 1, {})
    assert events.failures == ("observer-1: diffkit_step raised ValueError",)


def test_a_keyboard_interrupt_passes_and_costs_nobody_the_place() -> None:
    broken = Broken(KeyboardInterrupt())
    events = Events([], [broken])
    with pytest.raises(KeyboardInterrupt):
        events.step(Run(), 1, {})
    assert events.failures == ()
    events.run_end(Run(), 1)
    assert broken.calls == 2


def test_an_observer_that_does_not_fit_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Typo:
        @hookimpl
        def diffkit_stepp(self) -> None: ...

    sound = Recorder()
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        events = Events([], [Typo(), sound])
    assert events.failures == (
        "observer-0: there is no hook 'diffkit_stepp'; did you mean 'diffkit_step'?",
    )
    assert len(caplog.records) == 1
    events.run_start(Run())
    assert len(sound.heard) == 1


def test_what_one_run_disables_is_back_in_the_next() -> None:
    broken = Broken(ValueError())
    for calls in (1, 2):
        Events([("acme:watch", broken)]).step(Run(), 1, {})
        assert broken.calls == calls


def test_nothing_is_called_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    class Early:
        @hookimpl
        def diffkit_run_start(self) -> None: ...

    calls: list[str] = []
    monkeypatch.setattr(events_module, "call_each", lambda _, hook, *__: calls.append(hook))
    tell_everything(Events([], [Early()]), Run())
    assert calls == ["diffkit_run_start"]


def test_installed_hook_modules_hear_a_run(site: Site) -> None:
    source = (
        "from diffkit.plugins.hookspecs import hookimpl\nheard = []\n"
        "@hookimpl\ndef diffkit_step(step):\n    heard.append(step)\n"
        "    assert step < 2, 'too far'\n"
    )
    site.add("acme", "1.5", {HOOKS: {"watch": "acme_hooks"}}, acme_hooks=source)
    modules = site.host().load_hooks()
    for _ in range(2):
        events = Events(modules)
        for step in range(4):
            events.step(Run(), step, {})
        assert events.failures == ("acme:watch: diffkit_step raised AssertionError: too far",)
    import acme_hooks  # type: ignore[import-not-found]

    assert acme_hooks.heard == [0, 1, 2] * 2
