"""Every component of this package keeps the contract of its kind."""

from __future__ import annotations

import pytest

from diffkit.testing import parametrize_with_checks, run_checks, subjects


@parametrize_with_checks("inverse.*")
def test_contract(component, check):
    check(component)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_no_flake_in_ten_runs(seed):
    outcomes = run_checks(subjects("inverse.*"), seed=seed)
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
