"""What all tests share. With `DIFFKIT_SHAPES=1` shape annotations are checked at every call."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

if os.environ.get("DIFFKIT_SHAPES"):
    from .shapes import check_shapes

    check_shapes()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more, and threads of several processes starve each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
