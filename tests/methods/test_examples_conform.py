"""What the examples are made of keeps the laws, or says which it cannot."""

from __future__ import annotations

import pytest

from diffkit.testing import components_under_test, run_checks

from .common import host_of


@pytest.mark.parametrize(
    "name",
    [
        "mean_flow",
        "self_conditioning",
        "representation_alignment",
        "cfg_plus_plus",
        "masked_text",
        "bridge",
    ],
)
def test_an_example_passes_the_kit(name) -> None:
    found = components_under_test("local.*", host=host_of(name))
    outcomes = list(run_checks(found))
    assert not [str(o.message) for o in outcomes if o.status == "failed"]
    assert sum(o.status == "passed" for o in outcomes) > 20
