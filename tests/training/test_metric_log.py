"""A log that fails ends nothing."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

pytest.importorskip("tensorboard")

from diffkit.training.metric_log import sinks_of


def test_a_folder_that_is_deleted_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, sink = sinks_of(tmp_path / "run")
    sink(1, {"step": 1, "loss": 0.5})
    shutil.rmtree(tmp_path / "run")
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        for step in (2, 3):
            sink(step, {"step": step, "loss": 0.5})
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == [
        "TensorBoard is left out from update 2 on"
    ]


def test_folders_that_cannot_be_made_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("a file")
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        for sink in sinks_of(tmp_path / "run"):
            sink(1, {"step": 1, "loss": 0.5})
    assert len(caplog.records) == 2
