"""The moving average of weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit.functional.ema import ema_decay, ema_update

# Machines differ in speed; a law does not.
settings.register_profile("laws", deadline=None, max_examples=50)
settings.load_profile("laws")

decays = st.floats(0.0, 1.0)


@given(update=st.integers(0, 10**7), decay=decays)
def test_decay_warms_up_to_what_was_asked(update, decay):
    now, next_one = ema_decay(update, decay), ema_decay(update + 1, decay)
    assert 0.0 <= now <= next_one <= decay
    assert ema_decay(10**12, min(decay, 0.9999)) == min(decay, 0.9999)


def test_the_first_decays():
    assert [ema_decay(n, 0.9999) for n in (0, 1, 8, 90)] == [0.1, 2 / 11, 0.5, 0.91]


def test_random_first_weights_are_forgotten():
    kept = 1.0
    for update in range(100):
        kept *= ema_decay(update, 0.9999)
    # prod (1 + n)/(10 + n) is 9! 100!/109!, about 2e-13.
    assert kept < 1e-12


@given(
    average=st.floats(-10, 10),
    weights=st.lists(st.floats(-10, 10), min_size=1, max_size=5),
    decay=decays,
)
def test_updates_are_the_closed_form(average, weights, decay):
    kept = torch.tensor([average], dtype=torch.float64)
    for weight in weights:
        ema_update([kept], [torch.tensor([weight], dtype=torch.float64)], decay)
    n = len(weights)
    terms = [(1 - decay) * decay ** (n - 1 - i) * w for i, w in enumerate(weights)]
    # Five updates of numbers up to 10, each good to 2e-15.
    assert kept.item() == pytest.approx(decay**n * average + sum(terms), rel=0, abs=1e-13)


def test_all_tensors_in_place_and_weights_untouched():
    averages = [torch.zeros(2), torch.ones(3, 1)]
    weights = [torch.ones(2, requires_grad=True), torch.full((3, 1), 5.0)]
    pointers = [a.data_ptr() for a in averages]
    ema_update(averages, weights, 0.75)
    assert [a.data_ptr() for a in averages] == pointers
    assert averages[0].tolist() == [0.25, 0.25]
    assert averages[1].flatten().tolist() == [2.0] * 3
    assert weights[0].tolist() == [1.0, 1.0]
    assert not averages[0].requires_grad


def test_the_ends():
    average, weight = torch.tensor([1.0]), torch.tensor([3.0])
    ema_update([average], [weight], 1.0)
    assert average.item() == 1.0
    ema_update([average], [weight], 0.0)
    assert average.item() == 3.0
