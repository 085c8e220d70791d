"""The order of the data."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from diffkit.training.order import DataOrder


@given(n=st.integers(1, 20), size=st.integers(1, 50), start=st.integers(0, 200))
def test_any_slice_is_the_slice_of_the_whole(n: int, size: int, start: int) -> None:
    whole = DataOrder(n, seed=1).rows(0, start + size)
    assert DataOrder(n, seed=1).rows(start, size) == whole[start:]


@given(n=st.integers(1, 50))
def test_each_epoch_visits_everything_once(n: int) -> None:
    order = DataOrder(n, seed=2)
    epochs = [order.rows(epoch * n, n) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    if n > 20:
        assert epochs[0] != epochs[1] != epochs[2]
