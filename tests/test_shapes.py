"""The switch that has shape annotations checked does so."""

import os

import pytest
import torch
from jaxtyping import TypeCheckError

from diffkit.functional.coefficients import axpby


@pytest.mark.skipif(not os.environ.get("DIFFKIT_SHAPES"), reason="DIFFKIT_SHAPES is not set")
def test_one_name_is_one_size() -> None:
    x = torch.zeros(2, 3)
    assert axpby(1.0, x, 1.0, x).shape == (2, 3)
    with pytest.raises(TypeCheckError):
        axpby(1.0, x, 1.0, torch.zeros(1, 3))
