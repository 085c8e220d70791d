"""The components keep the laws that diffkit's conformance kit states."""

from __future__ import annotations

import pytest
from diffkit.core.process import GaussianProcess
from diffkit.testing import components_under_test, parametrize_with_checks, run_checks

from diffkit_diffusers.sampler import DiffusersScheduler

from .small_pipelines import small

NETWORK = {"architecture": small(norm_eps=1e-5, flip_sin_to_cos=True, dropout=0.0)}


CONFIGURATIONS = {"diffusers.unet-2d": [NETWORK]}


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


class OfAnyProcess(DiffusersScheduler):
    """The same, declared so that the kit runs it; its trajectories are variance preserving."""

    process_class = GaussianProcess


DISCRETE = "it samples with discrete schedules only, and this law is measured on a continuous one"


@parametrize_with_checks(
    OfAnyProcess,
    configurations={
        "classes.ofanyprocess": [
            # Those that can go between any two times of the grid, as the kit asks.
            {},
            {"scheduler": "EulerDiscreteScheduler"},
            {"options": {"algorithm_type": "sde-dpmsolver++"}},
        ]
    },
    expected_failures={
        "classes.ofanyprocess": {
            "asks_where_networks_are_trained": DISCRETE,
            "follows_the_flow": DISCRETE,
        }
    },
)
def test_trajectories(component, check):
    check(component)
