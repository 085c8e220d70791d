from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .fake_distributions import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty site on `sys.path`; its modules are forgotten afterwards."""
    monkeypatch.delenv("DIFFKIT_DISABLE", raising=False)
    folder = tmp_path / "site"
    made = Site(folder)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    yield made
    for name in made.imported():
        del sys.modules[name]
