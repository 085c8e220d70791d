"""A picture that is edited is the picture that was trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from diffkit.bundled.datasets.image_folder import ImageFolder
from diffkit.errors import DataError
from diffkit_inverse.images import read_image, read_mask

RNG = np.random.default_rng(0)


def saved(kind: str, path, size=(8, 8)) -> None:
    grey = RNG.integers(0, 256, size, dtype=np.uint8)
    alpha = RNG.integers(0, 2, size, dtype=np.uint8) * 255
    exif = Image.Exif()
    exif[0x0112] = 6
    match kind:
        case "turned":
            Image.fromarray(grey).save(path, exif=exif)
        case "16 bits":
            Image.fromarray(grey.astype(np.uint16) * 257).save(path)
        case "transparent":
            Image.fromarray(np.dstack([grey, alpha]), "LA").save(path)
        case "palette":
            Image.fromarray(np.dstack([grey, alpha]), "LA").convert("RGBA").quantize(9).save(path)
        case "colour":
            Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["turned", "16 bits", "transparent", "palette", "colour"])
def test_editing_reads_what_training_reads(kind, channels, tmp_path) -> None:
    saved(kind, tmp_path / "a.png")
    trained = ImageFolder(folder=str(tmp_path), size=8, channels=channels).batch([0]).x_0
    asked = read_image(tmp_path / "a.png", (channels, 8, 8), (-1.0, 1.0))
    assert torch.allclose(asked, trained, atol=1e-6)  # Float32 of 255 levels.


def test_another_shape_is_refused_or_cropped_as_in_training(tmp_path, caplog) -> None:
    saved("colour", tmp_path / "a.png", (20, 12))
    with pytest.raises(DataError, match="12 pixels wide and 20 high"):
        read_image(tmp_path / "a.png", (3, 8, 8), (-1.0, 1.0))
    asked = read_image(tmp_path / "a.png", (3, 8, 8), (-1.0, 1.0), resize=True)
    assert "cropped in its middle" in caplog.text
    trained = ImageFolder(folder=str(tmp_path), size=8).batch([0]).x_0
    assert torch.allclose(asked, trained, atol=1e-6)


def test_a_mask_is_upright_as_its_picture_is(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    grey = np.zeros((4, 4), dtype=np.uint8)
    grey[0] = 255
    Image.fromarray(grey).save(tmp_path / "m.png", exif=exif)
    assert read_mask(tmp_path / "m.png", (1, 4, 4))[0, 0, :, 0].tolist() == [0.0, 0.0, 0.0, 1.0]
