"""A log that fails ends nothing."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from diffkit.bundled.observers.tensorboard import TensorBoard
from diffkit.plugins.events import Events
from diffkit.training.metric_log import own_log
from diffkit.training.observed_run import ObservedRun


def test_a_folder_that_is_deleted_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard")
    events = Events([("board", TensorBoard())])
    run = ObservedRun(tmp_path / "run", {})
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        events.step(run, 1, {"step": 1, "loss": 0.5})
        assert not caplog.records
        assert list((tmp_path / "run" / "tensorboard").iterdir())
        shutil.rmtree(tmp_path / "run")
        for step in (2, 3):
            events.step(run, step, {"step": step, "loss": 0.5})
    (told,) = caplog.records
    assert "'board' is disabled from here on: diffkit_step raised" in told.getMessage()


def test_folders_that_cannot_be_made_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("a file")
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        for step in (1, 2):
            own_log(tmp_path / "run")(step, {"step": step, "loss": 0.5})
    assert len(caplog.records) == 2
