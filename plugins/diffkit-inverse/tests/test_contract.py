"""Every component of this package keeps the contract of its kind."""

from __future__ import annotations

import pytest
import torch

from diffkit.testing import Fixtures, components_under_test, parametrize_with_checks, run_checks

_WHOLE = torch.linspace(-0.5, 0.9, 64, dtype=torch.float64).reshape(1, 1, 8, 8)
_MASK = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
_MASK[..., 4:, :] = 1.0
_PAINTING = Fixtures(inputs={"image": _WHOLE, "mask": _MASK})
FIXTURES = {
    "inverse.replacement": _PAINTING,
    "inverse.repaint": _PAINTING,
    "inverse.dps-inpaint": _PAINTING,
    "inverse.dps-super-resolution": Fixtures(inputs={"measurement": _WHOLE[..., ::2, ::2]}),
    "inverse.dps-blur": Fixtures(inputs={"measurement": _WHOLE}),
    "inverse.sdedit": Fixtures(inputs={"image": _WHOLE}),
}
CONFIGURATIONS = {
    "inverse.repaint": [{}, {"jump_length": 2, "resamplings": 3}],
    "inverse.sdedit": [{}, {"strength": 1.0}, {"ancestral": False}],
}


@parametrize_with_checks("inverse.*", fixtures=FIXTURES, configurations=CONFIGURATIONS)
def test_contract(component, check):
    check(component)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_no_flake_under_other_seeds(seed):
    found = components_under_test("inverse.*", fixtures=FIXTURES, configurations=CONFIGURATIONS)
    outcomes = run_checks(found, seed=seed)
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
