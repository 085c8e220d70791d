"""Every component of this package keeps the contract of its kind."""

from __future__ import annotations

import pytest

from diffkit.testing import components_under_test, parametrize_with_checks, run_checks


@parametrize_with_checks("samplers.*")
def test_contract(component, check):
    check(component)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_no_flake_under_other_seeds(seed):
    outcomes = run_checks(components_under_test("samplers.*"), seed=seed)
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
