"""The emoji, where their font is installed."""

from __future__ import annotations

import pytest
import torch

from diffkit.core.text import as_strings
from diffkit.errors import DataError
from diffkit.testing import components_under_test, run_checks
from diffkit_latent.emoji import Emoji


@pytest.fixture(scope="module")
def emoji() -> Emoji:
    try:
        return Emoji(size=32)
    except DataError as error:
        pytest.skip(str(error))


def test_it_keeps_the_laws_of_datasets(emoji: Emoji) -> None:
    outcomes = list(
        run_checks(components_under_test("latent.emoji", configurations={"latent.emoji": [{}]}))
    )
    assert not [o.message for o in outcomes if o.status == "failed"]


def test_pictures_are_of_their_captions(emoji: Emoji) -> None:
    assert len(emoji) > 1000
    assert len(set(emoji.captions)) == len(emoji)
    rows = [emoji.captions.index(f"{colour} heart") for colour in ("green", "blue")]
    batch = emoji.batch(rows)
    assert as_strings(batch.condition["caption"]) == ["green heart", "blue heart"]
    middle = batch.x_0[:, :, 14:18, 14:18].mean(dim=(2, 3))
    assert middle.argmax(dim=1).tolist() == [1, 2]


def test_nothing_is_blank_and_margins_are_white(emoji: Emoji) -> None:
    x_0 = emoji.batch(range(len(emoji))).x_0
    assert x_0.abs().max() <= 1
    assert (x_0.flatten(1).std(dim=1) > 0.01).all()
    assert (x_0[:, :, 0, 0] > 0.9).float().mean() > 0.95


def test_labels_are_of_the_block(emoji: Emoji) -> None:
    label = emoji.batch(range(len(emoji))).condition["label"]
    assert torch.equal(label.unique(), torch.arange(7))
    assert label[emoji.captions.index("grinning face")] == 3


def test_fonts_that_are_none_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match="there is no font"):
        Emoji(font=str(tmp_path / "none.ttf"))
    (tmp_path / "text.ttf").write_text("text")
    with pytest.raises(DataError, match="cannot be read as a font"):
        Emoji(font=str(tmp_path / "text.ttf"))
