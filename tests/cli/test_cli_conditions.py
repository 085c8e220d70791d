"""Conditions and inputs on the command line: rows of one name join, whoever gives them."""

from __future__ import annotations

from types import SimpleNamespace

import click
import numpy as np
import pytest
import torch
from PIL import Image

from diffkit.cli.conditions import conditions_from, inputs_from
from diffkit.core import ConditionInfo

DECLARED = {
    "low": ConditionInfo(shape=(1, 4, 4), picture=True),
    "label": ConditionInfo(dtype="int64", classes=10),
}
PIPELINE = SimpleNamespace(
    parts=SimpleNamespace(flow=SimpleNamespace(declared=DECLARED), sample_shape=(1, 4, 4))
)


@pytest.fixture
def files(tmp_path):
    for i in range(2):
        Image.fromarray(np.full((4, 4), 255 * i, np.uint8)).save(tmp_path / f"{i}.png")
    np.save(tmp_path / "labels.npy", np.array([4, 5]))
    np.save(tmp_path / "wide.npy", np.zeros((2, 3)))
    (tmp_path / "texts.txt").write_text("a boot\na bag\n")
    return tmp_path


def conditions(num, *pairs, label=(), caption=()):
    return conditions_from(PIPELINE, num, pairs, None, {"label": label, "caption": caption})


def test_files_of_one_name_are_taken_in_turn(files) -> None:
    pairs = [("low", f"@{files}/0.png"), ("low", f"@{files}/1.png")]
    low = conditions(3, *pairs)["low"]
    assert low[:, 0, 0, 0].tolist() == [-1.0, 1.0, -1.0]
    inputs = inputs_from(PIPELINE, 3, [(name, text[1:]) for name, text in pairs])
    assert torch.equal(inputs["low"], low)


def test_options_of_their_own_join_with_those_by_name(files) -> None:
    file = ("label", f"@{files}/labels.npy")
    assert conditions(4, file, label=(2,))["label"].tolist() == [2, 4, 5, 2]
    assert conditions(4, file, ("label", "1,3"))["label"].tolist() == [4, 5, 1, 3]
    assert conditions(3, ("label", "1"), label=(2,))["label"] == [2, 1, 2]
    texts = conditions(4, ("caption", f"@{files}/texts.txt"), caption=("a shirt",))["caption"]
    assert texts == ["a shirt", "a boot", "a bag", "a shirt"]


def test_rows_that_do_not_join_are_refused_by_name(files) -> None:
    wide = ("label", f"@{files}/wide.npy")
    with pytest.raises(click.UsageError, match=r"--condition label: .* shapes \[\], \[3\]"):
        conditions(2, wide, label=(2,))
    with pytest.raises(click.UsageError, match=r"--condition caption: .* as texts and as the rows"):
        conditions(2, ("caption", f"@{files}/wide.npy"), caption=("a boot",))
