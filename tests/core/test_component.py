"""What creation records."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffkit.bundled.models.mlp import MLP
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.component import Component, arguments_of
from diffkit.core.sampler import Sampler
from diffkit.core.schedule import NoiseSchedule


class Listed(Component):
    kind = "toy"

    def __init__(self, *, names, table=None, labels=None):
        self.names = names
        names.append("changed inside")


class Network(nn.Module, Component):
    kind = "toy"

    def __init__(self, *, width: int = 3):
        super().__init__()
        self.layer = nn.Linear(width, width)


def test_defaults_are_recorded():
    assert arguments_of(DDPM()) == {"variance": None}
    assert arguments_of(DDPM(variance="fixed_large")) == {"variance": "fixed_large"}
    assert arguments_of(Linear(steps=2000, beta_last=0.03)) == {
        "steps": 2000,
        "beta_first": 1e-4,
        "beta_last": 0.03,
        "rescale": True,
    }


def test_what_was_recorded_makes_the_same_component():
    first = Linear(steps=77, beta_first=2e-4)
    second = Linear(**arguments_of(first))
    assert torch.equal(first.betas, second.betas)


def test_components_inside_components_are_recorded_as_they_are():
    schedule = Linear()
    assert arguments_of(VariancePreserving(schedule=schedule))["schedule"] is schedule


def test_the_record_is_a_copy():
    given_names, table = ["a"], {"b": 1}
    component = Listed(names=given_names, table=table, labels={"c"})
    given_names.append("changed outside")
    table["d"] = 2
    arguments_of(component).clear()
    recorded = arguments_of(component)
    assert recorded["table"] == {"b": 1}
    assert recorded["labels"] == {"c"}
    assert "changed outside" not in recorded["names"]


def test_the_record_is_of_the_arguments_as_they_were_given():
    assert arguments_of(Listed(names=["a"]))["names"] == ["a"]


def test_a_network_is_recorded_without_becoming_its_state():
    network = Network(width=4)
    assert arguments_of(network) == {"width": 4}
    assert set(network.state_dict()) == {"layer.weight", "layer.bias"}
    assert arguments_of(MLP(shape=(2,), width=8, depth=1)) == {
        "shape": (2,),
        "width": 8,
        "depth": 1,
        "learned_variance": False,
    }


def test_arguments_are_keyword_only_and_known():
    with pytest.raises(TypeError):
        DDPM("fixed_large")
    with pytest.raises(TypeError, match="varience"):
        DDPM(varience="fixed_large")


def test_kinds_are_abstract():
    with pytest.raises(TypeError, match="abstract"):
        NoiseSchedule()
    with pytest.raises(TypeError, match="abstract"):
        Sampler()


def test_components_state_nothing_unless_they_say_so():
    assert Component.facts(None) == {}
    assert list(Component.requires(None, {})) == []
