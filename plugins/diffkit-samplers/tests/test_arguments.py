"""Arguments that no component takes, from Python, where no schema is in between."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from diffkit.core.component import arguments_of
from diffkit.errors import ComponentError
from diffkit_samplers.ddim import DDIM
from diffkit_samplers.dpmpp_2m_sde import DPMpp2MSDE
from diffkit_samplers.euler import Euler
from diffkit_samplers.euler_ancestral import EulerAncestral
from diffkit_samplers.heun import Heun
from diffkit_samplers.ode import ODE
from diffkit_samplers.spacings import Karras
from diffkit_samplers.unipc import UniPC


@pytest.mark.parametrize("kind", [Euler, Heun])
def test_options_of_churn_without_churn(kind):
    for given in ({"churn_min": 0.1}, {"churn_max": 5.0}, {"churn_noise": 1.1}):
        ((name, value),) = given.items()
        with pytest.raises(ComponentError, match=f"{name} = {value} would do nothing"):
            kind(**given)
        config = SimpleNamespace(**{**arguments_of(kind()), **given})
        (problem,) = kind.requires(config, {})
        assert f"{name} = {value} would do nothing, as churn is None" in problem
        kind(churn=1.0, **given)
    config = SimpleNamespace(**{**arguments_of(kind()), "churn": 1.0, "churn_min": 9.0})
    assert not list(kind.requires(config, {}))
    config.churn_max = 1.0
    assert "below churn_min" in next(iter(kind.requires(config, {})))


OUT_OF_RANGE = [
    (DDIM, "eta", [-0.1, 1.5, math.nan]),
    (EulerAncestral, "eta", [-0.1, 1.5, math.nan]),
    (DPMpp2MSDE, "eta", [-0.1, math.inf]),
    (UniPC, "p", [0, 4, 2.5]),
    (ODE, "rtol", [0.0, -1.0]),
    (ODE, "atol", [0.0, math.inf]),
    (Karras, "rho", [0.0, -7.0, math.inf]),
    *((kind, "churn", [0.0, -1.0, math.nan]) for kind in (Euler, Heun)),
]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(kind, name, value) for kind, name, values in OUT_OF_RANGE for value in values],
)
def test_arguments_out_of_range(kind, name, value):
    with pytest.raises(ComponentError, match=rf"^samplers\.\S+: {name} .*{value}"):
        kind(**{name: value})


@pytest.mark.parametrize("kind", [Euler, Heun])
@pytest.mark.parametrize("given", [{"churn_min": -1.0}, {"churn_max": 0.0}, {"churn_noise": -1.0}])
def test_arguments_of_churn_out_of_range(kind, given):
    # A churn_max of 0 is not below churn_min, but no trajectory has such a level.
    with pytest.raises(ComponentError, match=f"{next(iter(given))} = .* must be"):
        kind(churn=1.0, **given)


def test_an_unknown_variant():
    with pytest.raises(ComponentError, match="bh1 or bh2"):
        UniPC(variant="bh3")
