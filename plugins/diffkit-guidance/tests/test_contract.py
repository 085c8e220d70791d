"""Every component of this package keeps the contract of its kind."""

from __future__ import annotations

import pytest

from diffkit.testing import parametrize_with_checks, run_checks, subjects
from guidance_runs import clip_folder, unconditional_run

CONFIGURATIONS = {
    "guidance.label": [{"classes": 10}, {"classes": 10, "width": 16}],
    "guidance.characters": [{}, {"width": 16, "depth": 1, "heads": 2}],
    "guidance.pretrained-text": [{"name": str(clip_folder()), "length": 12}],
    "guidance.sentence": [{"name": str(clip_folder()), "length": 12}],
    "guidance.classifier-free": [
        {},
        {"scale": 0.0},
        {"scale": 7.5, "rescale": 0.7},
        {"interval": [-4.0, 4.0]},
    ],
    "guidance.auto": [{"run": str(unconditional_run())}],
}


@parametrize_with_checks("guidance.*", configurations=CONFIGURATIONS)
def test_contract(component, check):
    check(component)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_no_flake_in_ten_runs(seed):
    outcomes = run_checks(subjects("guidance.*", configurations=CONFIGURATIONS), seed=seed)
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
