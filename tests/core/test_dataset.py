"""WrappedDataset: what a dataset around another does not have to write."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.api import make
from diffkit.core import Batch, ConditionInfo, Dataset, WrappedDataset
from diffkit.errors import SpecError

MADE = {
    "shape": (2,),
    "range": (0.0, 4.0),
    "dtype": "int64",
    "vocabulary": 5,
    "conditions": {"label": ConditionInfo(dtype="int64", classes=3)},
}
DEFAULTS = {"range": None, "dtype": "float32", "vocabulary": None, "conditions": None}


BACKWARDS = """
from diffkit.core import WrappedDataset

class Backwards(WrappedDataset):
    def batch(self, indices):
        return self.wrapped.batch([len(self) - 1 - index for index in indices])

class Silent(Backwards):
    @classmethod
    def facts(cls, config):
        return {}
"""
SPEC = {
    "schedule": {"id": "linear", "config": {"steps": 100}},
    "process": "variance-preserving",
    "model": {"id": "unet", "config": {"width": 8, "multipliers": [1], "groups": 4}},
    "loss": "simple",
    "sampler": "ddpm",
}


class Tokens(Dataset):
    shape, range, dtype = MADE["shape"], MADE["range"], MADE["dtype"]
    vocabulary, conditions = MADE["vocabulary"], MADE["conditions"]

    @classmethod
    def facts(cls, config):
        return MADE

    def __len__(self):
        return 7

    def batch(self, indices):
        rows = torch.as_tensor(indices)
        return Batch(torch.stack([rows % 5, rows % 2], dim=1), {"label": rows % 3})


class Points(Dataset):
    shape = (2,)

    def __len__(self):
        return 3

    def batch(self, indices):
        return Batch(torch.zeros(len(indices), 2))


class Backwards(WrappedDataset):
    def batch(self, indices):
        return self.wrapped.batch([len(self) - 1 - index for index in indices])


@pytest.mark.parametrize(
    ("wrapped", "declared", "count"),
    [(Tokens(), MADE, 7), (Points(), {"shape": (2,), **DEFAULTS}, 3)],
    ids=["all is declared", "nothing is"],
)
def test_it_declares_what_the_one_within_does(wrapped, declared, count):
    found = Backwards(dataset=Backwards(dataset=wrapped))
    assert {name: getattr(found, name) for name in declared} == declared
    assert len(found) == count


def test_every_property_of_a_dataset_is_handed_on():
    own = {name for name, value in vars(WrappedDataset).items() if isinstance(value, property)}
    assert own == {name for name, value in vars(Dataset).items() if isinstance(value, property)}


def test_a_pipeline_reads_its_facts_and_makes_the_one_within():
    spec = {**SPEC, "dataset": Backwards(dataset=make("dataset", "digits"))}
    pipeline = diffkit.build(spec)
    assert pipeline.spec.data.shape == (1, 8, 8)
    assert pipeline.spec.data.conditions == pipeline.dataset().conditions
    found = pipeline.dataset()
    assert torch.equal(found.batch([0]).x_0, found.wrapped.batch([1796]).x_0)


@pytest.fixture
def host(tmp_path):
    (tmp_path / "backwards.py").write_text(BACKWARDS)
    return diffkit.Host(plugin_files=[tmp_path / "backwards.py"])


def test_a_spec_names_the_one_within(host):
    named = {"id": "backwards", "config": {"dataset": "digits"}}
    pipeline = diffkit.build({**SPEC, "dataset": named}, host=host)
    assert pipeline.spec.data.shape == (1, 8, 8)
    assert len(pipeline.dataset()) == 1797


@pytest.mark.parametrize("data", [{}, {"data": {"shape": [1, 8, 8]}}], ids=["asked", "said"])
def test_a_spec_that_names_none_within_is_told_to(host, data):
    with pytest.raises(SpecError, match="made with another dataset; name one in its config"):
        diffkit.build({**SPEC, **data, "dataset": "backwards"}, host=host).dataset()


def test_one_whose_facts_say_no_shape_is_named(host):
    named = {"id": "silent", "config": {"dataset": "digits"}}
    with pytest.raises(SpecError, match="Silent says no shape of its samples in its facts"):
        diffkit.build({**SPEC, "dataset": named}, host=host)
