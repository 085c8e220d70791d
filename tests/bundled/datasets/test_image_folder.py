from __future__ import annotations

import io
import json
import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from diffkit.bundled.datasets.image_folder import ImageFolder
from diffkit.errors import DataError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def noise(*shape: int, seed: int = 0) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(levels)


def bands(width: int, height: int, *colours: tuple[int, int, int]) -> Image.Image:
    """Vertical bands of equal width."""
    image = Image.new("RGB", (width, height))
    step = width // len(colours)
    for i, colour in enumerate(colours):
        image.paste(colour, (i * step, 0, (i + 1) * step, height))
    return image


def levels(x_0: torch.Tensor) -> list:
    """A sample as 0..255, height first, channels last."""
    return ((x_0 + 1) * 127.5).round().int().permute(1, 2, 0).tolist()


def only(folder: Path, size: int = 2, channels: int = 3) -> torch.Tensor:
    data = ImageFolder(folder=str(folder), size=size, channels=channels)
    assert len(data) == 1
    return data.batch([0]).x_0[0]


def facts(folder: Path, size: int = 8, channels: int = 3):
    return ImageFolder.facts(SimpleNamespace(folder=str(folder), size=size, channels=channels))


def test_images_are_found_in_all_folders_and_sorted(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    greys = {"b.PNG": 10, "b/a.png": 20, "b/c/z.bmp": 30, "a.ppm": 40, "c.webp": 50}
    for name, grey in greys.items():
        Image.new("L", (4, 4), grey).save(tmp_path / name, lossless=True)
    for ignored in ("notes.txt", ".b.png", "._c.jpg", ".hidden/a.png", "png"):
        (tmp_path / ignored).write_text("no image")
    data = ImageFolder(folder=str(tmp_path), size=1, channels=1)
    expected = [40, 20, 30, 10, 50]  # a.ppm, b/a.png, b/c/z.bmp, b.PNG, c.webp
    assert len(data) == 5
    assert [levels(x)[0][0] for x in data.batch(range(5)).x_0] == [[grey] for grey in expected]
    assert [levels(x)[0][0] for x in data.batch([3, 0, 3]).x_0] == [[10], [40], [10]]
    assert len(data.batch([])) == 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 40])
@pytest.mark.parametrize("sides", [(16, 16, 3), (16, 31, 3), (33, 9, 3), (1, 200, 3), (16, 16)])
def test_every_sample_has_the_declared_shape_and_range(tmp_path, channels, size, sides):
    noise(*sides).save(tmp_path / "a.png")
    data = ImageFolder(folder=str(tmp_path), size=size, channels=channels)
    x_0 = data.batch([0]).x_0
    assert facts(tmp_path, size, channels) == {
        "shape": data.shape,
        "range": data.range,
        "conditions": data.conditions,
    }
    assert x_0.shape == (1, *data.shape) == (1, channels, size, size)
    assert x_0.dtype == torch.float32
    assert data.range[0] <= float(x_0.min()) <= float(x_0.max()) <= data.range[1]


def test_an_image_of_the_right_size_is_kept_to_the_last_bit(tmp_path):
    image = noise(16, 16, 3)
    image.save(tmp_path / "a.png")
    assert levels(only(tmp_path, 16)) == np.asarray(image).tolist()


def test_the_square_in_the_middle_is_kept(tmp_path):
    image = bands(60, 20, RED, GREEN, BLUE)
    image.save(tmp_path / "a.png")
    assert levels(only(tmp_path, 20)) == [[list(GREEN)] * 20] * 20
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png")
    assert levels(only(tmp_path, 20)) == [[list(GREEN)] * 20] * 20


@pytest.mark.parametrize("sides", [(24, 48), (48, 24), (25, 25)])
def test_cropping_within_the_resize_is_resizing_first_and_cropping_after(tmp_path, sides):
    height, width = sides
    image = noise(height, width, 3)
    image.save(tmp_path / "a.png")
    scale = 8 / min(sides)
    whole = image.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    left, top = (whole.width - 8) // 2, (whole.height - 8) // 2
    expected = np.asarray(whole.crop((left, top, left + 8, top + 8))).astype(int)
    assert np.abs(np.array(levels(only(tmp_path, 8))) - expected).max() <= 1


def test_resizing_averages_rather_than_picks(tmp_path):
    board = np.indices((64, 64)).sum(0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "a.png")
    # Picking pixels of a chessboard gives -1 or 1.
    assert float(only(tmp_path, 8, 1).abs().max()) < 0.05


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored left is the top
    for width in (16, 32):
        bands(width, 16, RED, BLUE).save(tmp_path / "a.png", exif=exif)
        expected = [[list(RED)] * 16] * 8 + [[list(BLUE)] * 16] * 8
        assert levels(only(tmp_path, 16)) == expected


def test_jpeg_is_read_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    bands(32, 32, RED, BLUE).save(tmp_path / "a.jpg", exif=exif, quality=95)
    left, *_, right = levels(only(tmp_path, 32))[0]
    assert left[2] > 240 > 15 > left[0]
    assert right[0] > 240 > 15 > right[2]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    clear = (9, 9, 9, 0) if mode == "RGBA" else (9, 0)
    half = (0, 0, 0, 128) if mode == "RGBA" else (0, 128)
    image = Image.new(mode, (2, 2), clear)
    image.paste(half, (1, 0, 2, 2))
    image.save(tmp_path / "a.png")
    left, right = levels(only(tmp_path))[0]
    assert (left, right) == ([255] * 3, [127] * 3)


def test_a_clear_pixel_does_not_bleed_into_its_neighbours(tmp_path):
    image = Image.new("RGBA", (64, 64), (255, 255, 255, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))  # clear, but black underneath
    image.save(tmp_path / "a.png")
    assert float(only(tmp_path, 7).min()) == 1.0


def test_a_transparent_colour_is_laid_on_white(tmp_path):
    bands(2, 2, RED, BLUE).save(tmp_path / "a.png", transparency=RED)
    assert levels(only(tmp_path))[0] == [[255, 255, 255], list(BLUE)]
    palette = bands(2, 2, RED, BLUE).quantize(4)
    palette.save(tmp_path / "a.png", transparency=palette.getpixel((0, 0)))
    assert levels(only(tmp_path))[0] == [[255, 255, 255], list(BLUE)]


def test_palette_images_show_their_colours(tmp_path):
    for name in ("a.png", "a.gif"):
        bands(2, 2, RED, BLUE).quantize(4).save(tmp_path / name)
        assert levels(only(tmp_path))[0] == [list(RED), list(BLUE)]
        (tmp_path / name).unlink()


def test_grey_becomes_three_equal_channels_and_colour_one(tmp_path):
    Image.new("L", (4, 4), 77).save(tmp_path / "a.png")
    assert levels(only(tmp_path))[0][0] == [77] * 3
    Image.new("RGB", (4, 4), GREEN).save(tmp_path / "a.png")
    assert levels(only(tmp_path, channels=1))[0][0] == [150]  # 0.587 of 255, ITU-R 601


def test_black_and_white_and_cmyk(tmp_path):
    Image.new("1", (4, 4), 1).save(tmp_path / "a.png")
    assert levels(only(tmp_path))[0][0] == [255] * 3
    (tmp_path / "a.png").unlink()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = levels(only(tmp_path))[0][0]
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_are_scaled_and_not_cut_off(tmp_path, suffix):
    column = np.array([0, 257 * 100, 257 * 200, 65535], np.uint16)
    Image.fromarray(np.tile(column, (4, 1))).save(tmp_path / f"a.{suffix}")
    assert levels(only(tmp_path, 4, 1))[0] == [[0], [100], [200], [255]]
    assert levels(only(tmp_path, 4, 3))[0] == [[0] * 3, [100] * 3, [200] * 3, [255] * 3]


def test_a_transparent_level_of_16_bits(tmp_path):
    column = np.array([0, 257 * 100, 257 * 200, 65535], np.uint16)
    Image.fromarray(np.tile(column, (4, 1))).save(tmp_path / "a.png", transparency=257 * 100)
    assert levels(only(tmp_path, 4, 1))[0] == [[0], [255], [200], [255]]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_are_refused(tmp_path, dtype):
    Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a.tif has 32-bit pixels"):
        only(tmp_path)


def test_of_an_animation_the_first_picture_counts(tmp_path):
    pictures = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    assert levels(only(tmp_path))[0][0] == list(RED)


def broken_files() -> dict[str, bytes]:
    whole = {}
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"):
        buffer = io.BytesIO()
        noise(32, 32, 3).save(buffer, kind)
        whole[kind] = buffer.getvalue()
    foreign = io.BytesIO()
    noise(32, 32, 3).save(foreign, "PCX")
    return {
        "a format that is not on the list": foreign.getvalue(),
        "empty": b"",
        "text": b"no image",
        "zeros": bytes(1000),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EOF\n",
        **{f"truncated {kind}": content[: len(content) // 2] for kind, content in whole.items()},
        **{f"header of {kind}": content[:20] for kind, content in whole.items()},
    }


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("content", [pytest.param(b, id=n) for n, b in broken_files().items()])
def test_a_broken_image_is_named_when_it_is_asked_for(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    noise(4, 4, 3).save(tmp_path / "b.png")
    data = ImageFolder(folder=str(tmp_path), size=4)
    data.batch([1])
    with pytest.raises(DataError, match=r"a.png cannot be read as an image.*replace it or delete"):
        data.batch([1, 0])


def test_an_image_that_has_gone_is_named(tmp_path):
    noise(4, 4, 3).save(tmp_path / "a.png")
    data = ImageFolder(folder=str(tmp_path), size=4)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a.png cannot be read"):
        data.batch([0])


@pytest.mark.parametrize("side", [12, 100])  # Pillow warns of the first and refuses the second
@pytest.mark.parametrize("action", ["ignore", "error"])
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, side, action):
    noise(side, side, 3).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(DataError, match=r"a.png is too large.*shrink it or delete it"):
            only(tmp_path)


@pytest.mark.parametrize("use", [facts, lambda folder: ImageFolder(folder=str(folder), size=4)])
def test_folders_that_are_none(tmp_path, use):
    with pytest.raises(DataError, match="absent does not exist"):
        use(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is a file"):
        use(tmp_path / "file")


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"has no images; their names end in .*\.jpg"):
        ImageFolder(folder=str(tmp_path), size=4)


def test_without_pillow_the_message_says_what_to_install(tmp_path, monkeypatch):
    noise(4, 4, 3).save(tmp_path / "a.png")
    data = ImageFolder(folder=str(tmp_path), size=4)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match="install `pillow`"):
        data.batch([0])


@pytest.fixture
def inside(tmp_path):
    """A folder of two images, beside which there is another."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("in/a.png", "in/b.png", "out/c.png"):
        noise(4, 4, 3).save(tmp_path / name)
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("x.png", "../out/c.png"),
        ("x.png", "../out/absent.png"),
        ("sub", "../out"),
        ("sub", ".."),
        ("metadata.jsonl", "../out/metadata.jsonl"),
    ],
)
def test_links_out_of_the_folder_are_refused(inside, link, target):
    (inside.parent / "out" / "metadata.jsonl").write_text("")
    os.symlink(target, inside / link)
    with pytest.raises(DataError, match=f"{link} is a link out of the folder"):
        ImageFolder(folder=str(inside), size=4)


def test_a_link_that_leads_out_by_another_link_is_refused(inside):
    os.symlink("../out", inside / ".hidden")
    os.symlink(".hidden/c.png", inside / "x.png")
    with pytest.raises(DataError, match="is a link out of the folder"):
        ImageFolder(folder=str(inside), size=4)


def test_links_within_the_folder(inside):
    os.symlink("a.png", inside / "x.png")
    os.symlink(".", inside / "loop")
    os.symlink("round", inside / "round")
    assert len(ImageFolder(folder=str(inside), size=4)) == 3


@pytest.mark.parametrize("target", ["absent.png", "x.png"])
def test_links_that_lead_nowhere_are_refused(inside, target):
    os.symlink(target, inside / "x.png")
    with pytest.raises(DataError, match=r"x.png is a link that leads to no file; delete it"):
        ImageFolder(folder=str(inside), size=4)


def test_the_folder_itself_may_be_a_link(inside):
    os.symlink("in", inside.parent / "link")
    assert len(ImageFolder(folder=str(inside.parent / "link"), size=4)) == 2


def test_what_is_no_regular_file_is_left_out(inside):
    os.mkfifo(inside / "pipe.png")
    assert len(ImageFolder(folder=str(inside), size=4)) == 2


def write_captions(folder: Path, *records: object) -> None:
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_captions_follow_the_order_of_the_images(inside):
    assert ImageFolder(folder=str(inside), size=4).captions == (None, None)
    (inside / "sub").mkdir()
    noise(4, 4, 3).save(inside / "sub" / "d.png")
    write_captions(inside, {"file_name": "b.png", "text": "Käse\u2028one line", "other": [1]}, "")
    assert ImageFolder(folder=str(inside), size=4).captions == (None, "Käse\u2028one line", None)
    write_captions(inside, {"file_name": "sub/d.png", "text": "d"}, {"file_name": "a.png"})
    assert ImageFolder(folder=str(inside), size=4).captions == (None, None, "d")


def test_captions_in_a_folder_within_are_relative_to_it(inside):
    (inside / "sub").mkdir()
    noise(4, 4, 3).save(inside / "sub" / "d.png")
    write_captions(inside / "sub", {"file_name": "./d.png", "text": "d"})
    assert ImageFolder(folder=str(inside), size=4).captions == (None, None, "d")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "has no name"),
        ('{"text": "a"}', "has no name"),
        ('{"file_name": 3}', "has no name"),
        ({"file_name": "absent.png", "text": "a"}, "'absent.png' is none of the images"),
        ({"file_name": "notes.txt", "text": "a"}, "'notes.txt' is none of the images"),
        ({"file_name": "", "text": "a"}, "is none of the images"),
        ({"file_name": "../out/c.png", "text": "a"}, "leads out of the folder"),
        ({"file_name": "sub/../a.png", "text": "a"}, "leads out of the folder"),
        ({"file_name": "/etc/passwd", "text": "a"}, "leads out of the folder"),
        ({"file_name": "b.png", "text": 3}, "text is 3; a caption is a string"),
        ({"file_name": "a.png", "text": "a"}, "has a line already"),
    ],
)
def test_a_wrong_caption_is_named_by_its_line(inside, line, message):
    (inside / "notes.txt").touch()
    write_captions(inside, {"file_name": "a.png", "text": "a"}, "", line)
    with pytest.raises(DataError, match=message) as caught:
        ImageFolder(folder=str(inside), size=4)
    assert f"{inside / 'metadata.jsonl'}, line 3" in str(caught.value)


def test_captions_that_are_no_text(inside):
    (inside / "metadata.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"metadata.jsonl cannot be read as UTF-8"):
        ImageFolder(folder=str(inside), size=4)


def broken_and_whole(folder: Path, broken: set[int]) -> None:
    for index in range(6):
        Image.new("L", (4, 4), 40 * index).save(folder / f"{index}.png")
        if index in broken:
            whole = (folder / f"{index}.png").read_bytes()
            (folder / f"{index}.png").write_bytes(whole[:40])


def test_an_unreadable_image_is_skipped_on_purpose_only(tmp_path, caplog) -> None:
    broken_and_whole(tmp_path, {2, 3, 5})
    with pytest.raises(DataError, match=r"2\.png"):
        ImageFolder(folder=str(tmp_path), size=4).batch([2])
    data = ImageFolder(folder=str(tmp_path), size=4, unreadable="skip")
    # Each time the next that can be read, whoever was asked for before.
    for rows in ([0, 1, 2, 3, 4, 5], [5, 3], [2]):
        found = ((data.batch(rows).x_0[:, 0, 0, 0] + 1) * 127.5).round()
        stands_in = {0: 0, 1: 1, 2: 4, 3: 4, 4: 4, 5: 0}
        assert found.tolist() == [40.0 * stands_in[row] for row in rows]
    assert [path.name for path in data.skipped] == ["2.png", "3.png", "5.png"]
    assert caplog.text.count("skipped, the ") == 3


def test_a_folder_of_which_nothing_can_be_read(tmp_path) -> None:
    broken_and_whole(tmp_path, set(range(6)))
    with pytest.raises(DataError, match="none of the images"):
        ImageFolder(folder=str(tmp_path), size=4, unreadable="skip").batch([0])
