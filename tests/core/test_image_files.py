"""One file is the same picture everywhere, and no picture starts a program."""

from __future__ import annotations

import os
import stat

import numpy as np
import pytest
from PIL import Image

import diffkit
from diffkit.core.image_files import fitted, open_picture, pixels_of

UP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
"""A picture that is another one when it is turned or mirrored."""


def turned(number: int) -> tuple[Image.Image, dict]:
    """The picture as a camera stores it whose EXIF orientation is `number`."""
    stored = {
        1: lambda p: p,
        2: lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda p: p.transpose(Image.Transpose.ROTATE_180),
        4: lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda p: p.transpose(Image.Transpose.TRANSPOSE),
        6: lambda p: p.transpose(Image.Transpose.ROTATE_90),
        7: lambda p: p.transpose(Image.Transpose.TRANSVERSE),
        8: lambda p: p.transpose(Image.Transpose.ROTATE_270),
    }[number](Image.fromarray(UP))
    exif = Image.Exif()
    exif[0x0112] = number
    return stored, {"exif": exif}


@pytest.mark.parametrize("number", range(1, 9))
def test_every_orientation_is_upright(number, tmp_path) -> None:
    picture, options = turned(number)
    picture.save(tmp_path / "a.png", **options)
    assert np.array_equal(pixels_of(open_picture(tmp_path / "a.png", 1, "it"))[..., 0], UP)


def test_sixteen_bits_are_the_same_grey_as_eight(tmp_path) -> None:
    Image.fromarray(UP.astype(np.uint16) * 257).save(tmp_path / "a.png")
    assert np.array_equal(pixels_of(open_picture(tmp_path / "a.png", 1, "it"))[..., 0], UP)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_what_is_transparent_is_white(mode, tmp_path) -> None:
    alpha = np.where(np.arange(8) < 4, 255, 0).astype(np.uint8)[None].repeat(8, 0)
    picture = Image.fromarray(np.dstack([UP, UP, UP, alpha]), "RGBA")
    picture = picture.quantize(200) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "a.png")
    found = pixels_of(open_picture(tmp_path / "a.png", 1, "it"))[..., 0].astype(int)
    seen = np.asarray(picture.convert("RGBA")).astype(int)[..., 0]
    assert (found[:, 4:] == 255).all()
    assert abs(found[:, :4] - seen[:, :4]).max() <= 1  # Grey of colours is rounded.


@pytest.mark.parametrize("size", [(4, 6), (6, 4), (3, 3), (16, 8)])
def test_fitting_crops_the_middle_and_keeps_proportions(size) -> None:
    """Of a picture that is a ramp in x, the result is the same ramp, cut at both sides alike."""
    ramp = np.tile(np.linspace(0, 255, 64), (64, 1)).astype(np.uint8)
    height, width = size
    found = pixels_of(fitted(Image.fromarray(ramp), height, width))[..., 0].astype(float)
    assert found.shape == size
    share = min(1.0, width / height)  # of the ramp that is left
    expected = 127.5 + 255 * share * ((np.arange(width) + 0.5) / width - 0.5)
    inner = slice(1, -1) if width > 3 else slice(None)
    # The filter sees beyond no edge: its kernel is cut there.
    assert abs(found.mean(0)[inner] - expected[inner]).max() < 6


def test_no_picture_starts_a_program(tmp_path, monkeypatch) -> None:
    """Pillow would hand PostScript to Ghostscript, whatever the file is called."""
    mark, bin_ = tmp_path / "started", tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "gs").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (bin_ / "gs").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n")
    with pytest.raises(diffkit.DataError, match="cannot be read as an image"):
        open_picture(path, 3, "it")
    assert not mark.exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p)])
def test_only_files_are_read(make, tmp_path) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(diffkit.DataError, match="is no regular file"):
        open_picture(tmp_path / "a.png", 3, "--image")


def test_a_strip_with_few_pixels_and_an_endless_side_is_refused(tmp_path) -> None:
    from PIL import Image

    from diffkit.core.image_files import LONGEST_SIDE, open_picture
    from diffkit.errors import DataError

    for side in (LONGEST_SIDE, LONGEST_SIDE + 1):
        Image.new("L", (1, side)).save(tmp_path / f"{side}.png")
    assert open_picture(tmp_path / f"{LONGEST_SIDE}.png", 1, "here").height == LONGEST_SIDE
    with pytest.raises(DataError, match=r"1 x 65536.*crop it"):
        open_picture(tmp_path / f"{LONGEST_SIDE + 1}.png", 1, "here")
