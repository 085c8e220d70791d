"""Every bundled component passes the kit."""

from __future__ import annotations

import pytest

from diffkit.plugins.host import default_host
from diffkit.testing import components_under_test, parametrize_with_checks, run_checks

# Files are written by the tests of these datasets, which hold them to the same checks.
NEED_FILES = {"diffkit.idx", "diffkit.image-folder", "diffkit.npz"}
# Encoders of others: the tests of a package with some hold them to the same checks.
HOLD_OTHERS = {"diffkit.several", "diffkit.renamed"}
BUNDLED = sorted(
    {e.id for e in default_host().components() if e.origin.distribution == "diffkit"}
    - NEED_FILES
    - HOLD_OTHERS
)


@parametrize_with_checks(BUNDLED)
def test_contract(component, check) -> None:
    check(component)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_no_flake_under_other_seeds(seed) -> None:
    found = components_under_test(BUNDLED)
    assert not [o.message for o in run_checks(found, seed=seed) if o.status == "failed"]


def test_nothing_is_left_out() -> None:
    pytest.importorskip("sklearn")
    assert len(BUNDLED) + len(NEED_FILES) + len(HOLD_OTHERS) == len(
        {e.id for e in default_host().components() if e.origin.distribution == "diffkit"}
    )
