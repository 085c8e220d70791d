"""Every component of this package keeps the contract of its kind."""

from __future__ import annotations

import pytest
import torch

from diffkit import as_text
from diffkit.testing import Fixtures, components_under_test, parametrize_with_checks, run_checks

from .guidance_runs import classifier_folder, clip_folder, unconditional_run

CONFIGURATIONS = {
    "guidance.label": [{"classes": 10}, {"classes": 10, "width": 16}],
    "guidance.characters": [{}, {"width": 16, "depth": 1, "heads": 2}],
    "guidance.classifier-free": [
        {},
        {"scale": 0.0},
        {"scale": 7.5, "rescale": 0.7},
        {"interval": [-4.0, 4.0]},
    ],
    "guidance.in-turn": [
        {"guidances": ["guidance.classifier-free"]},
        {"guidances": ["guidance.classifier-free", "guidance.classifier-free"]},
    ],
}
LABEL = {"id": "guidance.label", "config": {"classes": 10, "width": 8}}
CHARACTERS = {
    "id": "guidance.characters",
    "config": {"width": 16, "depth": 1, "heads": 2, "length": 64},
}
TITLE = {
    "id": "diffkit.renamed",
    "config": {"encoder": CHARACTERS, "takes": {"caption": "title"}, "gives": {"vector": "style"}},
}
# Bundled, and nothing without encoders such as these.
OF_OTHERS = {
    "diffkit.several": [{"encoders": [LABEL, CHARACTERS]}, {"encoders": [CHARACTERS, TITLE]}],
    "diffkit.renamed": [TITLE["config"]],
}
TITLES = {"title": lambda n: as_text([f"number {i}" for i in range(n)])}
# What reads folders, which are made when the tests run and are called otherwise each time.
OF_FOLDERS = {
    "guidance.pretrained-text": lambda: {"name": str(clip_folder()), "length": 12},
    "guidance.sentence": lambda: {"name": str(clip_folder()), "length": 12},
    "guidance.auto": lambda: {"run": str(unconditional_run())},
    "guidance.classifier": lambda: {"folder": str(classifier_folder()), "scale": 2.0},
}
FIXTURES = {"guidance.classifier": Fixtures(conditions={"label": lambda n: torch.arange(n) % 10})}


@parametrize_with_checks(list(CONFIGURATIONS), configurations=CONFIGURATIONS)
def test_contract(component, check):
    check(component)


@parametrize_with_checks(
    list(OF_OTHERS),
    configurations=OF_OTHERS,
    fixtures={name: Fixtures(conditions=TITLES) for name in OF_OTHERS},
)
def test_contract_of_encoders_of_others(component, check):
    check(component)


@pytest.mark.parametrize("full_id", OF_FOLDERS)
def test_contract_of_what_reads_folders(full_id):
    fixtures = {name: fixtures for name, fixtures in FIXTURES.items() if name == full_id}
    found = components_under_test(
        full_id, configurations={full_id: [OF_FOLDERS[full_id]()]}, fixtures=fixtures
    )
    outcomes = list(run_checks(found))
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
    assert sum(outcome.status == "passed" for outcome in outcomes) > 10


def test_nothing_is_left_out():
    every = {subject.entry.id for subject in components_under_test("guidance.*")}
    assert every == CONFIGURATIONS.keys() | OF_FOLDERS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_no_flake_under_other_seeds(seed):
    folders = {full_id: [config()] for full_id, config in OF_FOLDERS.items()}
    configurations = {**CONFIGURATIONS, **folders}
    outcomes = run_checks(
        components_under_test("guidance.*", configurations=configurations, fixtures=FIXTURES),
        seed=seed,
    )
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
