"""What the examples are made of keeps the laws, or says which it cannot."""

from __future__ import annotations

import pytest

import diffkit
from diffkit.testing import components_under_test, run_checks

from .common import host_of

TEACHER = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [1, 8, 8]},
}


@pytest.mark.parametrize(
    "name",
    [
        "mean_flow",
        "consistency",
        "self_conditioning",
        "representation_alignment",
        "cfg_plus_plus",
        "composition",
        "muon",
        "masked_text",
        "bridge",
    ],
)
def test_an_example_passes_the_kit(name) -> None:
    passes(components_under_test("local.*", host=host_of(name)))


def test_one_that_needs_a_run_passes_with_one(tmp_path) -> None:
    teacher = diffkit.build(TEACHER).save(tmp_path)
    config = {"teacher": str(teacher), "steps": 4}
    configurations = {"local.progressive_distillation": [config]}
    passes(
        components_under_test(
            "local.*", host=host_of("distillation"), configurations=configurations
        )
    )


def passes(subjects) -> None:
    """No law fails, and not because none could be checked."""
    outcomes = list(run_checks(subjects))
    assert not [str(o.message) for o in outcomes if o.status == "failed"]
    assert sum(o.status == "passed" for o in outcomes) > 12
