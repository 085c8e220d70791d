"""What the examples are made of keeps the laws, or says which it cannot."""

from __future__ import annotations

import pytest

from diffkit.testing import components_under_test, run_checks

from .common import EXAMPLES, host_of

NEEDS = {"super_resolution": "sklearn", "coupled_flow": "scipy"}
"""What a file imports that diffkit does not bring."""


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_an_example_passes_the_kit(name) -> None:
    """No law fails, and not because none could be checked; nothing is given but the file."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    outcomes = list(run_checks(components_under_test("local.*", host=host_of(name))))
    assert not [str(o.message) for o in outcomes if o.status == "failed"]
    assert sum(o.status == "passed" for o in outcomes) > 12
