"""The components keep the laws that diffkit's conformance kit states."""

from __future__ import annotations

from diffkit.core.process import GaussianProcess
from diffkit.testing import parametrize_with_checks

from diffkit_diffusers.sampler import DiffusersScheduler
from small_pipelines import small

NETWORK = {"architecture": small(norm_eps=1e-5, flip_sin_to_cos=True, dropout=0.0)}


@parametrize_with_checks("diffusers.*", configurations={"diffusers.unet-2d": [NETWORK]})
def test_contract(component, check):
    check(component)


class OfAnyProcess(DiffusersScheduler):
    """The same, declared so that the kit walks it; its walks are variance preserving."""

    process_class = GaussianProcess


DISCRETE = "it walks discrete schedules only, and this law is measured on a continuous one"


@parametrize_with_checks(
    OfAnyProcess,
    configurations={
        "classes.ofanyprocess": [
            # Those that can walk between any two times of the grid, as the kit asks.
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
def test_walks(component, check):
    check(component)
