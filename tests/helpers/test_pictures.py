"""Pictures of samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffkit.errors import DataError
from diffkit.helpers import pictures

X = torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(
    1, 6
).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("data_range", [None, (-1.0, 2.0)])
def test_a_picture_is_that_of_its_sample_alone(data_range) -> None:
    together = pictures.to_bytes(X, data_range)
    assert together.shape == (5, 4, 6, 3)
    for row in range(5):
        assert np.array_equal(pictures.to_bytes(X[row : row + 1], data_range)[0], together[row])
    if data_range is None:
        assert together.reshape(5, -1).min(1).tolist() == [0] * 5
        assert together.reshape(5, -1).max(1).tolist() == [255] * 5


def test_black_and_white_are_the_ends_of_the_range() -> None:
    x = torch.tensor([-3.0, -1.0, 0.5, 2.0, 7.0]).reshape(5, 1, 1, 1)
    found = pictures.to_bytes(x, (-1.0, 2.0))[:, 0, 0, 0]
    assert found.tolist() == [0, 0, 128, 255, 255]


def test_a_constant_picture_without_a_range_is_finite() -> None:
    assert pictures.to_bytes(torch.full((1, 1, 2, 2), 7.0), None).max() == 0


def test_what_is_not_finite_is_paper_and_changes_no_other() -> None:
    spoilt = X.clone()
    spoilt[1, 0, 0, 0], spoilt[3] = float("inf"), float("nan")
    for data_range in (None, (-1.0, 1.0)):
        found, before = (pictures.to_bytes(x, data_range) for x in (spoilt, X))
        assert (found[[1, 3]] == 255).all()
        assert np.array_equal(found[[0, 2, 4]], before[[0, 2, 4]])


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(DataError, match=r"1 or 3 channels, not samples of \[2, 4\]"):
        pictures.to_bytes(torch.zeros(1, 2, 4), None)
