"""The first data are held against the range that is declared for them."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.assembly.range_check import RangeCheck, RangeChecked
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.errors import DataError, SpecError

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "training": {"steps": 2, "batch_size": 8},
}


class Points(Dataset):
    def __init__(self, values, declared=None):
        self.values, self.declared = values, declared

    @property
    def shape(self):
        return tuple(self.values.shape[1:])

    @property
    def range(self):
        return self.declared

    def __len__(self):
        return len(self.values)

    def batch(self, indices):
        return Batch(self.values[list(indices)])


def trained(values, data_range, declared=None, **more):
    dataset = Points(values, declared)
    spec = {**SPEC, "dataset": dataset, "data": {"shape": [2], "range": data_range}}
    return diffkit.build(spec, device="cpu").train(progress=False, **more)


class Tokens(Points):
    dtype, vocabulary = "int64", 5


@pytest.mark.parametrize("token", [5, -1])
def test_a_token_beyond_the_vocabulary_is_named_with_its_sample(token):
    values = torch.arange(10).reshape(5, 2) % 5
    looked = RangeChecked(dataset=Tokens(values.clone()), data_range=None, numbers=False)
    assert torch.equal(looked.batch([0, 4]).x_0, values[[0, 4]])
    values[3, 1] = token
    looked = RangeChecked(dataset=Tokens(values), data_range=None, numbers=False)
    with pytest.raises(DataError, match=rf"sample 3 .* token {token}, .* vocabulary is 5: 0 to 4"):
        looked.batch([0, 3])


def test_a_value_beyond_the_range_is_named_with_its_sample():
    values = torch.zeros(8, 2)
    values[5, 1] = 218.0
    with pytest.raises(
        DataError, match=r"sample 5 .* value 218, and data.range declares \[-1, 1\]"
    ):
        trained(values, [-1.0, 1.0])
    trained(values, None)
    trained(values, [-1.0, 218.0])
    # Rounding is none; half a level of 255 is.
    trained(torch.full((8, 2), 1.0 + 1e-6), [-1.0, 1.0])
    with pytest.raises(DataError, match=r"value 1\.002"):
        trained(torch.full((8, 2), 1.002), [-1.0, 1.0])


def test_a_range_that_the_dataset_declares_otherwise_is_refused():
    values = torch.zeros(8, 2)
    trained(values, [-1.0, 1.0], (-1.0, 1.0))
    trained(values, None, (-1.0, 1.0))
    with pytest.raises(DataError, match=r"samples in \[-1.0, 1.0\], and .* \[0.0, 1.0\]"):
        trained(values, [0.0, 1.0], (-1.0, 1.0))


def test_only_the_first_batches_are_looked_at():
    def refused(after, data_range=(-1.0, 1.0)):
        look = RangeCheck(data_range)
        for _ in range(after):
            look([0], torch.zeros(1, 2))
        try:
            look([0], torch.full((1, 2), 9.0))
        except DataError:
            return True
        return False

    assert [refused(after) for after in (0, 9, 10)] == [True, True, False]
    assert not refused(0, None)


def test_what_is_nan_is_left_to_training():
    RangeCheck((-1.0, 1.0))([0], torch.full((1, 2), float("nan")))
    with pytest.raises(DataError, match="value inf"):
        RangeCheck((-1.0, 1.0))([0], torch.full((1, 2), float("inf")))


def test_the_dataset_is_otherwise_the_same():
    dataset = Points(torch.arange(8.0).reshape(4, 2), (0.0, 7.0))
    looked = RangeChecked(dataset=dataset, data_range=(0.0, 7.0))
    assert (looked.shape, looked.range, len(looked)) == ((2,), (0.0, 7.0), 4)
    assert torch.equal(looked.batch([2, 0]).x_0, dataset.batch([2, 0]).x_0)


@pytest.mark.parametrize("wrong", [[1.0, -1.0], [1.0, 1.0], [-1e308, 1e308]])
def test_a_range_that_is_none_is_refused(wrong):
    with pytest.raises(SpecError, match=r"data\.range.*the first is the smaller one"):
        diffkit.build({**SPEC, "data": {"shape": [2], "range": wrong}})


def test_a_dataset_that_declares_no_range_that_is_one_is_refused():
    for wrong in ((1.0, -1.0), (0.0, float("inf"))):
        with pytest.raises(SpecError, match="dataset: what it declares of its data is wrong"):
            diffkit.build({**SPEC, "dataset": Points(torch.zeros(8, 2), wrong)})
