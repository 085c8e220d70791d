"""The components keep the laws that diffkit's conformance kit states."""

from __future__ import annotations

import pytest
from diffkit.testing import components_under_test, parametrize_with_checks, run_checks

from .small_pipelines import small

NETWORK = {"architecture": small(norm_eps=1e-5, flip_sin_to_cos=True, dropout=0.0)}


CONFIGURATIONS = {
    "diffusers.unet-2d": [NETWORK],
    "diffusers.scheduler": [
        # Those that can go between any two times of the grid, as the kit asks.
        {},
        {"scheduler": "EulerDiscreteScheduler"},
        {"options": {"algorithm_type": "sde-dpmsolver++"}},
    ],
}


@parametrize_with_checks("diffusers.*", configurations=CONFIGURATIONS)
def test_contract(component, check):
    check(component)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_no_flake_under_other_seeds(seed):
    outcomes = run_checks(
        components_under_test("diffusers.*", configurations=CONFIGURATIONS), seed=seed
    )
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
