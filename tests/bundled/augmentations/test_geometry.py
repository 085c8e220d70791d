"""What is done to a picture is what its label says."""

from __future__ import annotations

import math

import pytest
import torch

from diffkit.bundled.augmentations.crop import Crop
from diffkit.bundled.augmentations.non_leaking import NonLeaking, _inverse
from diffkit.core.loss import Batch
from diffkit.core.noise import BatchNoise

SIZE = (48, 64)


def blob(x: float, y: float) -> torch.Tensor:
    """A bump at a place in pixels from the middle, x to the right and y down."""
    height, width = SIZE
    rows = torch.arange(height)[:, None] - (height - 1) / 2 - y
    columns = torch.arange(width)[None] - (width - 1) / 2 - x
    return torch.exp(-(rows**2 + columns**2) / 18)[None, None]


def place(picture: torch.Tensor) -> tuple[float, float]:
    height, width = SIZE
    weight = picture[0, 0] / picture.sum()
    x = (weight.sum(0) * (torch.arange(width) - (width - 1) / 2)).sum()
    y = (weight.sum(1) * (torch.arange(height) - (height - 1) / 2)).sum()
    return float(x), float(y)


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        ({"scale": 1.0}, (10 * 2**0.2, 0.0)),
        ({"turn": math.pi / 2}, (0.0, 10.0)),
        ({"move": (1.0, 0.5)}, (10 + 64 / 8, 48 / 16)),
        ({"stretch": 1.0, "direction": 0.0}, (10 * 2**0.2, 0.0)),
        ({"stretch": 1.0, "direction": math.pi / 2}, (10 * 2**-0.2, 0.0)),
    ],
)
def test_each_moves_a_bump_where_it_should(numbers, wanted) -> None:
    """A bump of 3 pixels, 10 to the right of the middle; bilinear: a hundredth of a pixel."""
    values = {"scale": 0.0, "turn": 0.0, "stretch": 0.0, "direction": 0.0, **numbers}
    move = torch.tensor([values.pop("move", (0.0, 0.0))])
    given = {name: torch.tensor([value]) for name, value in values.items()}
    grid = torch.nn.functional.affine_grid(
        _inverse(**given, move=move, size=torch.Size(SIZE)), [1, 1, *SIZE], align_corners=False
    )
    moved = torch.nn.functional.grid_sample(blob(10.0, 0.0), grid, align_corners=False)
    assert place(moved) == pytest.approx(wanted, abs=0.01)


def noise(count: int) -> BatchNoise:
    return BatchNoise(seed=0, step=0, rows=range(count), total=count)


def test_what_was_not_changed_is_as_it_was() -> None:
    x = torch.rand(64, 3, 8, 8)
    found = NonLeaking(probability=0.0)(Batch(x), noise(64), ())
    label = found.condition["augmentation"]
    assert not label[:, 1:].any()
    mirrored = label[:, 0].bool()
    assert torch.equal(found.x_0[mirrored], x[mirrored].flip(-1))
    assert torch.equal(found.x_0[~mirrored], x[~mirrored])


def test_labels_say_how_often() -> None:
    """Of 20,000: five standard errors of a share are 0.018 at most."""
    x = torch.zeros(20_000, 1, 4, 4)
    label = NonLeaking(probability=0.3)(Batch(x), noise(len(x)), ()).condition["augmentation"]
    shares = (label != 0).float().mean(0)
    wanted = torch.tensor([0.5, 0.15, *[0.3] * 7])
    torch.testing.assert_close(shares, wanted, rtol=0, atol=0.018)
    assert (label[:, 3] + 1).square().add(label[:, 4].square()).sub(1).abs().max() < 1e-6


def test_a_crop_is_a_window_of_the_padded_picture() -> None:
    x = torch.rand(32, 2, 6, 9)
    found = Crop(padding=2)(Batch(x, {"map": x}), noise(32), ("map",))
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    windows = padded.unfold(2, 6, 1).unfold(3, 9, 1).flatten(2, 3)
    hits = (windows.transpose(1, 2) == found.x_0[:, None]).flatten(2).all(2)
    assert hits.any(1).all()
    assert len(set(hits.float().argmax(1).tolist())) > 5
    assert torch.equal(found.condition["map"], found.x_0)
