from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from diffkit.bundled.datasets.digits import Digits
from diffkit.errors import DataError


@pytest.fixture(scope="module")
def digits():
    return Digits()


def test_there_are_1797_digits_of_ten_kinds(digits):
    batch = digits.batch(range(len(digits)))
    assert len(digits) == len(batch) == 1797
    assert batch.x_0.shape == (1797, 1, 8, 8)
    assert batch.x_0.dtype == torch.float32
    assert batch.condition["label"].dtype == torch.int64
    assert batch.condition["label"].unique().tolist() == list(range(10))


def test_ink_0_to_16_becomes_minus_1_to_1(digits):
    x_0 = digits.batch(range(len(digits))).x_0
    levels = x_0.unique()
    assert torch.equal(levels, torch.arange(17) / 8 - 1)
    assert (levels.min(), levels.max()) == digits.range


def test_the_digits_are_scikit_learns(digits):
    from sklearn.datasets import load_digits

    truth = load_digits()
    batch = digits.batch([5, 0, 1796, 5])
    for row, index in enumerate([5, 0, 1796, 5]):
        assert ((batch.x_0[row, 0] + 1) * 8).tolist() == truth.images[index].tolist()
        assert batch.condition["label"][row] == truth.target[index]


def test_facts_are_those_of_the_instance_and_need_no_scikit_learn(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert Digits.facts(SimpleNamespace()) == {
        "shape": digits.shape,
        "range": digits.range,
        "conditions": digits.conditions,
    }
    assert digits.conditions["label"].classes == 10


def test_a_batch_can_be_changed_without_changing_the_data(digits):
    batch = digits.batch([3])
    batch.x_0.zero_()
    batch.condition["label"].zero_()
    assert digits.batch([3]).x_0.abs().sum() > 0
    assert digits.batch([3]).condition["label"] == 3


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"install `diffkit\[demo\]`"):
        Digits()
