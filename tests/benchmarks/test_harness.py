"""What a machine cannot compute in is left out of the benchmarks, by name."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("harness", Path(__file__).with_name("harness.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "harness", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("slower", "kept"), [(1.5, ("float32", "bfloat16")), (300.0, ("float32",))]
)
def test_a_precision_that_is_emulated_is_left_out_and_named(
    harness: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    slower: float,
    kept: tuple[str, ...],
) -> None:
    def in_turn(calls: dict[str, Callable[[], object]], _: int) -> dict[str, object]:
        return {name: harness.Timing([slower if name == "bfloat16" else 1.0]) for name in calls}

    monkeypatch.setattr(harness, "in_turn", in_turn)
    assert harness.precisions() == kept
    contestants = {"ours float32": 1, "ours bfloat16": 2}
    assert [name.split()[1] for name in harness.in_reach(contestants)] == list(kept)
    assert ("bfloat16 is left out" in capsys.readouterr().err) == ("bfloat16" not in kept)
