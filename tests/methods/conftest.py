"""Fixtures that train, too, run on one thread."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _fixtures_on_one_thread():
    """Small networks gain nothing from more, and threads of several processes starve each other."""
    torch.set_num_threads(1)
