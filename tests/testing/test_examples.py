"""A component says how it is tried, and from what it is exempt."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.schedules.karras import Karras
from diffkit.core import EpsilonModel, Example, Weighting
from diffkit.errors import ComponentError
from diffkit.testing import Fixtures, components_under_test, run_checks
from diffkit.testing.report import Report


class Steep(Weighting):
    """A weighting that needs a configuration, and cannot keep a law."""

    exempt: ClassVar = {"every_option_does_something": "power 1 and 2 are the same in its paper"}

    def __init__(self, *, power: int) -> None:
        self._power = power

    @classmethod
    def examples(cls):
        return [Example({"power": 1}), Example({"power": 2})]

    def weight(self, log_snr):
        return torch.exp(-log_snr.abs())


def test_examples_are_what_is_tried() -> None:
    found = components_under_test(Steep)
    assert [one.config for one in found] == [{"power": 1}, {"power": 2}]
    assert not [o.message for o in run_checks(found) if o.status == "failed"]


def test_what_a_caller_gives_comes_first() -> None:
    for name in ("classes.steep", "weighting:classes.steep"):
        (one,) = components_under_test(Steep, configurations={name: [{"power": 3}]})
        assert one.config == {"power": 3}
    found = components_under_test(Steep, fixtures={"classes.steep": Fixtures(shape=(3,))})
    assert [one.fixtures.shape for one in found] == [(3,), (3,)]
    with pytest.raises(ComponentError, match=r"'loss:classes.steep' is not among"):
        components_under_test(Steep, fixtures={"loss:classes.steep": Fixtures()})


def test_an_exemption_is_shown_with_its_reason() -> None:
    outcomes = list(run_checks(components_under_test(Steep)))
    exempt = [o for o in outcomes if o.check.name == "every_option_does_something"]
    assert {o.status for o in exempt} == {"skipped"}
    lines = [line for o in exempt for line in Report().told(o)]
    assert any("exempt, as it says: power 1 and 2 are the same" in line for line in lines)


def exploding():
    return VarianceExploding(schedule=Karras())


class Told(EpsilonModel):
    """A model of points, with a condition, a module from code and a process."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.inside, self.told = torch.nn.Linear(2 + 16, width), torch.nn.Linear(3, width)
        self.outside = torch.nn.Linear(width, 2)

    @classmethod
    def facts(cls, config):
        return {"conditions": ("style",)}

    @classmethod
    def examples(cls):
        style = {"style": lambda n: torch.arange(3.0 * n).reshape(n, 3).sin()}
        return [Example({"width": 16}, shape=(2,), conditions=style, process=exploding)]

    def forward(self, x, c_noise, condition):
        angles = c_noise.to(x.dtype)[:, None] / 10 ** (torch.arange(8) / 2)
        hidden = self.inside(torch.cat([x, angles.sin(), angles.cos()], dim=1))
        style = condition["style"].to(self.told.weight.dtype)
        return self.outside(torch.nn.functional.silu(hidden + self.told(style)))


def test_an_example_has_its_shape_conditions_and_process() -> None:
    (found,) = components_under_test(Told)
    assert found.fixtures.shape == (2,)
    assert found.fixtures.process is exploding
    outcomes = list(run_checks([found]))
    assert not [o.message for o in outcomes if o.status == "failed"]
    assert sum(o.status == "passed" for o in outcomes) > 15
