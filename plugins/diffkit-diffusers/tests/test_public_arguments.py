"""Every argument of the public functions: what is wrong is named."""

from __future__ import annotations

import pytest
from diffkit.errors import DiffkitError

import diffkit_diffusers

WRONG = ("", "~/there-is-none", None, 3, True, b"x", [], object())


def test_wrong_arguments_are_errors_of_ours(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in WRONG:
        with pytest.raises(DiffkitError):
            diffkit_diffusers.import_pipeline(value)
        with pytest.raises(DiffkitError):
            diffkit_diffusers.export_pipeline(value, tmp_path / "out")
    assert not list(tmp_path.iterdir())
